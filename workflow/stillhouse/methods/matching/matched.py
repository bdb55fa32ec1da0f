"""Optimisation of all images of a distilled set by the gradient of a utility.

Image optimiser of DC, DM and MTT: gradient descent with momentum on the inputs of networks.
"""

import numpy as np
import pyarrow as pa
import torch

from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.formats import RowGroups
from stillhouse.data.codecs import IMAGE, encode
from stillhouse.data.transforms import round_to_uint8
from stillhouse.data.whitening import preparation
from stillhouse.methods.common.initialization import initial_files, initial_images
from stillhouse.methods.common.optimisation import Optimised, optimise
from stillhouse.methods.common.snapshots import first_of_classes, snapshot_table
from stillhouse.methods.common.utilities.loading import load_utility
from stillhouse.methods.matching.coordinates import Normalised, Whitened
from stillhouse.methods.matching.images import RATE

SCHEMA = pa.schema([("image", IMAGE), ("class_id", pa.string()), ("index", pa.int32())])


def matched(inputs, spec, context):
    """Stage: optimise the images of a distilled set, all classes together.

    ``images.parquet`` has a row group per class, its metadata the learned rate of students, if
    the utility learns one; ``curve.json`` and ``snapshots.parquet`` are as those of a synthesis.
    """
    settings, keys = spec["settings"], spec["keys"]
    utility = load_utility(settings["utility"], inputs, settings, keys["seed"], context)
    classes, ipc = settings["classes"], keys["ipc"]
    initial, device = settings["initial"], context.torch_device()
    whitened = settings.get("coordinates") == "whitened"
    coordinates = Whitened(preparation(inputs, device)) if whitened else Normalised(device)

    def make(member, context):
        places = [(class_id, index) for class_id in classes for index in range(ipc)]
        start = initial_images(
            initial,
            places,
            initial_files(inputs, initial),
            settings["resolution"],
            keys["seed"],
            roots=context.source_roots,
        )
        labels = torch.arange(len(classes)).repeat_interleave(ipc)
        start, labels = start.to(device), labels.to(device)
        if initial != "noise":
            start = coordinates.of_normalised(start)
        pixels = Pixels(start, labels, settings, utility, spec["address"], coordinates)
        curve, snapshots = optimise(pixels, settings["iterations"], Checkpoint(context))
        return {
            "curve.json": curve,
            "snapshots.parquet": snapshot_table(snapshots, settings["iterations"]),
            "images.parquet": _stored(pixels.bytes(), classes, utility.learning_rate),
        }

    return make


def _stored(images, classes, learning_rate):
    """Return images, (n, 3, side, side) uint8 array, as row groups, one per class."""
    metadata = {} if learning_rate is None else {RATE: str(learning_rate)}
    schema = SCHEMA.with_metadata(metadata)
    groups = (
        pa.table(
            {
                "image": [{"bytes": encode(image, "png"), "path": None} for image in pixels],
                "class_id": [class_id] * len(pixels),
                "index": list(range(len(pixels))),
            },
            schema=schema,
        )
        for class_id, pixels in zip(classes, np.split(images, len(classes)), strict=True)
    )
    return RowGroups(schema, groups)


class Pixels(Optimised):
    """Images that are optimised in some coordinates, with the velocity of their momentum.

    Parameters
    ----------
    images : (n, 3, side, side) float32
        Coordinates of the initial images; on the device.
    labels : (n,) int64
    settings : dict
        ``learning_rate`` in units of the coordinates, ``momentum``, ``clamp``: keep pixels in
        [0, 1] after every step, not at the end alone.
    utility : stillhouse.methods.common.utilities.base.Utility
    address : str
        Of the artifact, for messages.
    coordinates : Normalised or Whitened
    """

    def __init__(self, images, labels, settings, utility, address, coordinates):
        self.images, self.labels, self.settings, self.utility = images, labels, settings, utility
        self.coordinates = coordinates
        self.name, self.learning_rate = address, settings["learning_rate"]
        self.velocity = torch.zeros_like(images)

    def shown(self):
        """Return the images in [0, 1] and beyond, as utilities take them."""
        return self.coordinates.pixels(self.images)

    def bytes(self, rows=slice(None)):
        """Return all images or some, rounded to (n, 3, side, side) uint8, an array."""
        return round_to_uint8(self.coordinates.pixels(self.images[rows]) * 255).cpu().numpy()

    def step(self, iteration):
        """Descend along the gradient of the utility; return {"distance": its loss}."""
        loss, gradient = self.utility(self.shown(), self.labels, iteration)
        self.descend(gradient)
        return {"distance": torch.tensor(loss, dtype=torch.float64)}

    def descend(self, gradient):
        """Update the images by the gradient to those in [0, 1]."""
        self.velocity.mul_(self.settings["momentum"]).add_(self.coordinates.gradient(gradient))
        self.images.sub_(self.learning_rate * self.velocity)
        if self.settings["clamp"]:
            self.images.copy_(self.coordinates.of(self.shown().clamp(0, 1)))

    def snapshot(self):
        """Return the first images of the first classes, see `Optimised`."""
        return torch.from_numpy(self.bytes(first_of_classes(self.labels)))

    def state(self):
        """Return the images, their velocity, and the state of the utility."""
        utility = {f"utility.{name}": value for name, value in self.utility.state().items()}
        return {"pixels": self.images, "velocity": self.velocity, **utility}

    def restore(self, state):
        """Continue from a `state`."""
        self.images.copy_(state["pixels"])
        self.velocity.copy_(state["velocity"])
        self.utility.restore(select_prefix(state, "utility."))
