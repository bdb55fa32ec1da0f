"""Batches: the images that are optimised together, since statistics are matched over a batch.

The plan imports this module: it imports no torch.
"""


def batches(settings, ipc):
    """Return the batches of a set's images, each a list of (label, index).

    Parameters
    ----------
    settings : dict
        Of a synthesis. ``order``: ``by_class``, all images of a class, then of the next (G-VBSM,
        EDC); ``by_copy``, one image of each class, then the next of each (SRe2L), at most one image
        of a class per batch. ``classes``. ``batch_size``: images per batch, 0 for all; the last
        batch may have fewer.
    ipc : int
    """
    n_classes = len(settings["classes"])
    size = settings["batch_size"] or n_classes * ipc
    if settings["order"] == "by_class":
        pairs = [(label, index) for label in range(n_classes) for index in range(ipc)]
        return [pairs[first : first + size] for first in range(0, len(pairs), size)]
    return [
        [(label, index) for label in range(first, min(first + size, n_classes))]
        for index in range(ipc)
        for first in range(0, n_classes, size)
    ]
