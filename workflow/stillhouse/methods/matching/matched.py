"""Optimisation of all images of a distilled set by the gradient of a utility.

Image optimiser of DC, DM and MTT: gradient descent with momentum on normalised pixels.
"""

import math

import pyarrow as pa
import torch

from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.formats import RowGroups
from stillhouse.artifacts.progress import track
from stillhouse.data.codecs import IMAGE, encode
from stillhouse.data.transforms import MEAN, STD, normalised_to_bytes
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.curves import Curve
from stillhouse.methods.common.initialization import initial_images
from stillhouse.methods.common.snapshots import (
    first_of_classes,
    snapshot_iterations,
    snapshot_table,
    write_sheet,
)
from stillhouse.methods.common.utilities.base import split_state
from stillhouse.methods.common.utilities.loading import load_utility
from stillhouse.methods.matching.images import RATE

SCHEMA = pa.schema([("image", IMAGE), ("class_id", pa.string()), ("index", pa.int32())])
# Points of a curve, for any number of iterations.
N_POINTS = 100


def matched(inputs, spec, context):
    """Stage: optimise the images of a distilled set, all classes together.

    ``images.parquet`` has a row group per class, its metadata the learned rate of students, if
    the utility learns one; ``curve.json`` and ``snapshots.parquet`` are as those of a synthesis.
    """
    settings, keys = spec["settings"], spec["keys"]
    utility = load_utility(settings["utility"], inputs, settings, keys["seed"], context)
    classes, ipc = settings["classes"], keys["ipc"]
    files = {"noise": None, "real": inputs.get("images"), "set": inputs.get("initial")}

    def make(member, context):
        places = [(class_id, index) for class_id in classes for index in range(ipc)]
        start = initial_images(
            settings["initial"],
            places,
            files[settings["initial"]],
            settings["resolution"],
            keys["seed"],
            roots=context.source_roots,
        )
        labels = torch.arange(len(classes)).repeat_interleave(ipc)
        device = context.torch_device()
        pixels = Pixels(start.to(device), labels.to(device), settings)
        checkpoint, count = Checkpoint(context), settings["iterations"]
        curve, snapshots = optimise(pixels, utility, checkpoint, count, spec["address"])
        return {
            "curve.json": curve,
            "snapshots.parquet": snapshot_table(snapshots, settings["iterations"]),
            "images.parquet": _stored(pixels.images, classes, utility.learning_rate),
        }

    return make


def _stored(images, classes, learning_rate):
    """Return the images as row groups, one per class."""
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
        for class_id, pixels in zip(
            classes, map(normalised_to_bytes, images.chunk(len(classes))), strict=True
        )
    )
    return RowGroups(schema, groups)


class Pixels:
    """Images that are optimised, normalised, with the velocity of their momentum.

    Parameters
    ----------
    images : (n, 3, side, side) float32
        Normalised; on the device.
    labels : (n,) int64
    settings : dict
        ``learning_rate`` in units of normalised pixels, ``momentum``, ``clamp``: keep pixels in
        [0, 1] after every step, not at the end alone.
    """

    def __init__(self, images, labels, settings):
        self.images, self.labels, self.settings = images, labels, settings
        self.velocity = torch.zeros_like(images)
        self.mean, self.std = (images.new_tensor(v)[:, None, None] for v in (MEAN, STD))

    def shown(self):
        """Return the images in [0, 1] and beyond, as utilities take them."""
        return self.images * self.std + self.mean

    def step(self, gradient):
        """Descend along the gradient to the images in [0, 1]."""
        self.velocity.mul_(self.settings["momentum"]).add_(gradient * self.std)
        self.images.sub_(self.settings["learning_rate"] * self.velocity)
        if self.settings["clamp"]:
            self.images.copy_((self.shown().clamp(0, 1) - self.mean) / self.std)

    def state(self):
        """Return the tensors by name that the next step depends on."""
        return {"images": self.images, "velocity": self.velocity}

    def restore(self, state):
        """Continue from a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def optimise(pixels, utility, checkpoint, count, address):
    """Optimise images in place; return (curve, snapshots).

    Parameters
    ----------
    pixels : Pixels
    utility : stillhouse.methods.common.utilities.base.Utility
    checkpoint : stillhouse.artifacts.checkpoints.Checkpoint
    count : int
        Iterations.
    address : str
        Of the artifact, for messages.

    Returns
    -------
    curve : dict of str to list of float
        ``distance``: mean of the loss over every hundredth of the iterations.
    snapshots : (5, up to 10, 3, side, side) uint8 tensor
        See `stillhouse.methods.common.snapshots`.

    Raises
    ------
    StillhouseError
        If the loss is not finite.
    """
    curve, snapshots, start = Curve(), [_snapshot(pixels)], 0
    stored = checkpoint.resume("matching", "iteration")
    if stored is not None:
        start, snapshots = _restore(pixels, utility, curve, *stored)
    every, shown = -(-count // N_POINTS), set(snapshot_iterations(count))
    for i in track(range(start, count), count - start, "iterations", curve.last):
        loss, gradient = utility(pixels.shown(), pixels.labels, i)
        _check_finite(loss, i + 1, address)
        pixels.step(gradient)
        curve.add({"distance": torch.tensor(loss, dtype=torch.float64)})
        last = i + 1 == count
        if (i + 1) % every == 0 or last:
            curve.close()
        if i + 1 in shown:
            snapshots.append(_snapshot(pixels))
        if checkpoint.due(last=last):
            _save(pixels, utility, curve, checkpoint, i + 1, torch.stack(snapshots))
    _check_finite(pixels.images.abs().max().item(), count + 1, address)
    return curve.means, torch.stack(snapshots)


def _check_finite(number, iteration, address):
    """Raise a `StillhouseError` if the loss of an iteration is, or would be, not finite."""
    if not math.isfinite(number):
        raise StillhouseError(
            f"{address}: learning_rate: the loss of iteration {iteration} is not finite; lower the "
            "learning rate of the images"
        )


def _snapshot(pixels):
    return torch.from_numpy(normalised_to_bytes(pixels.images[first_of_classes(pixels.labels)]))


def _save(pixels, utility, curve, checkpoint, done, snapshots):
    tensors, numbers = split_state(utility.state())
    tensors = {f"utility.{name}": tensor for name, tensor in tensors.items()}
    tensors |= {f"pixels.{name}": tensor for name, tensor in pixels.state().items()}
    tensors |= {f"sum.{name}": value for name, value in curve.sums.items()}
    values = {"done": done, "means": curve.means, "counts": curve.counts, "utility": numbers}
    checkpoint.save({**tensors, "snapshots": snapshots}, values)
    current = torch.cat([snapshots, _snapshot(pixels)[None]])
    write_sheet(current, checkpoint.path.with_name("snapshots.png"))


def _restore(pixels, utility, curve, tensors, values):
    """Restore a checkpoint; return the number of completed iterations, and the snapshots."""
    pixels.restore(select_prefix(tensors, "pixels."))
    utility.restore(select_prefix(tensors, "utility.") | values["utility"])
    curve.means, curve.counts = values["means"], values["counts"]
    curve.sums = select_prefix(tensors, "sum.")
    return values["done"], list(tensors["snapshots"])
