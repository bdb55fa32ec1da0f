"""Slices: the images of a set that share their networks and lie in one file.

Plain values: the plan is made with this module.
"""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Slice:
    """Consecutive images of a set, class by class.

    Parameters
    ----------
    label, n_classes : int
        First label, and number of classes.
    index, count : int
        First index within each class, and images of each class.
    """

    label: int
    n_classes: int
    index: int
    count: int

    @property
    def n_images(self):
        """Number of images."""
        return self.n_classes * self.count

    @property
    def places(self):
        """(label, index) of each image, in their order in the file."""
        return [
            (label, index)
            for label in range(self.label, self.label + self.n_classes)
            for index in range(self.index, self.index + self.count)
        ]


def slices(size, n_classes, ipc):
    """Return the slices of a set, in order.

    Parameters
    ----------
    size : int or str
        ``class``: one per class; ``set``: one for all images; a number: at most this number
        of images of a class, in slices whose sizes differ by one at most.
    n_classes, ipc : int
    """
    if size == "set":
        return [Slice(0, n_classes, 0, ipc)]
    count = 1 if size == "class" else -(-ipc // size)
    cuts = [ipc * i // count for i in range(count + 1)]
    return [
        Slice(label, 1, first, last - first)
        for label in range(n_classes)
        for first, last in itertools.pairwise(cuts)
    ]


def set_slices(settings, keys):
    """Return the slices of a set, from the settings and keys of one of its artifacts."""
    return slices(settings["slice"], len(settings["classes"]), keys["ipc"])
