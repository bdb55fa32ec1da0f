"""The images of a set made elsewhere, read as by its job."""

import numpy as np
import pytest
from stillhouse.artifacts.context import Context
from stillhouse.data.codecs import decode
from stillhouse.data.normalisation import PUBLISHED
from stillhouse.methods.given import images
from stillhouse.methods.given.files import digest, set_files

from tests.methods.given.layouts import CLASSES, IPC


class Read:
    """A set that was read.

    Parameters
    ----------
    stored : list
        Per image, class by class: pixels, or bytes of a file.
    learned : stillhouse.data.distilled_set.LearnedParts
    """

    def __init__(self, stored, learned):
        self.stored, self.learned = stored, learned

    @property
    def pixels(self):
        """The images as (n, 3, side, side) uint8."""
        return np.stack([decode(s) if isinstance(s, bytes) else s for s in self.stored])


@pytest.fixture
def read():
    """Return a function that reads a set, by default one normalised as CIFAR is."""

    def read_place(place, ipc=IPC, classes=CLASSES, resolution=8, **settings):
        settings = {
            "kind": "given",
            "classes": classes,
            "resolution": resolution,
            "sha256": digest(set_files(place, place.is_dir())),
            "dataset_normalisation": [list(part) for part in PUBLISHED["cifar"]],
            **settings,
        }
        spec = {"settings": settings, "keys": {"ipc": ipc, "seed": 0}, "address": "results/x"}
        inputs, context = {"set": [place]}, Context()
        images._load.cache_clear()
        rows = [images.images_of_class(inputs, spec, c, context) for c in classes]
        assert all(origin == [] for row in rows for _, origin in row)
        stored = [image for row in rows for image, _ in row]
        return Read(stored, images.learned_parts(inputs, spec, context))

    return read_place
