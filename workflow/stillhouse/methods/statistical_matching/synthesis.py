"""Synthesis of images by gradient descent on the losses of frozen teachers, the observers.

SRe2L (Yin et al., NeurIPS 2023), CDA (Yin & Shen, TMLR 2024), G-VBSM (Shao et al., CVPR 2024) and
EDC (Shao et al., NeurIPS 2024) are settings of this loop.
"""

import pyarrow as pa
import torch

from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.formats import RowGroups
from stillhouse.data.codecs import IMAGE, encode
from stillhouse.data.transforms import normalise, normalised_to_bytes
from stillhouse.methods.common.initialization import initial_files, initial_images
from stillhouse.methods.common.optimisation import Optimised, optimise
from stillhouse.methods.common.snapshots import first_of_classes, snapshot_table
from stillhouse.methods.statistical_matching import losses
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.methods.statistical_matching.observers import load_observer
from stillhouse.training import loop
from stillhouse.training.lr_schedules import half_cosine
from stillhouse.training.optimizers import TensorAdam

SCHEMA = pa.schema([("image", IMAGE), ("class_id", pa.string()), ("index", pa.int32())])
BETAS = (0.5, 0.9)
# Iterations between two verifications: save_every of the official code.
VERIFIED = 100


def synthesis(inputs, spec, context):
    """Stage: synthesise the images of a set, in independent batches."""
    return Synthesis(inputs, spec, context)


class Synthesis:
    """Optimisation of batches of images for loaded observers."""

    def __init__(self, inputs, spec, context):
        self.settings, self.keys = spec["settings"], spec["keys"]
        self.batches = batches(self.settings, self.keys["ipc"])
        self.device = context.torch_device()
        statistics = inputs.get("statistics") or [None] * len(inputs["teachers"])
        self.observers = [
            load_observer(*files, self.settings, self.device)
            for files in zip(inputs["teachers"], statistics, strict=True)
        ]
        self.initial_files = initial_files(inputs, self.settings["initial"])

    def __call__(self, number, context):
        """Return the files of one batch."""
        settings, keys = self.settings, {**self.keys, "batch": number}
        classes, pairs = settings["classes"], self.batches[number]
        images = initial_images(
            settings["initial"],
            [(classes[label], index) for label, index in pairs],
            self.initial_files,
            settings["resolution"],
            keys["seed"],
            draw=settings.get("initial_draw", "distinct"),
            flip=settings["flip"],
            roots=context.source_roots,
        )
        labels = torch.tensor([label for label, _ in pairs])
        batch = Batch(images.to(self.device), labels.to(self.device), settings, keys)
        observers = [observer.for_batch(batch.labels) for observer in self.observers]
        matched = MatchedBatch(batch, observers)
        curve, snapshots = optimise(matched, settings["iterations"], Checkpoint(context))
        # One row group per image, since a set is collected class by class.
        rows = (
            pa.table(
                {
                    "image": [{"bytes": encode(image, "png"), "path": None}],
                    "class_id": [classes[label]],
                    "index": [index],
                },
                schema=SCHEMA,
            )
            for image, (label, index) in zip(normalised_to_bytes(batch.images), pairs, strict=True)
        )
        return {
            "curve.json": curve,
            "snapshots.parquet": snapshot_table(snapshots, settings["iterations"]),
            "images.parquet": RowGroups(SCHEMA, rows),
        }


class Batch:
    """Images that are optimised together, and the state of their optimisation.

    Parameters
    ----------
    images : (n, 3, side, side) float32
        Normalised; on the device.
    labels : (n,) int64
    settings : dict
        Of the stage.
    keys : dict
        ``ipc``, ``seed``, ``batch``.
    """

    def __init__(self, images, labels, settings, keys):
        self.images = images.contiguous().requires_grad_(True)
        self.labels, self.settings, self.keys = labels, settings, keys
        self.same_class = losses.same_class_groups(labels)
        self.adam = TensorAdam(self.images, betas=BETAS)
        # Moving average of the images over the iterations, for flatness.
        self.average = images.detach().clone() if "beta" in settings["flatness"] else None
        black, white = (
            normalise(torch.full((1, 3, 1, 1), value, device=images.device))
            for value in (0.0, 255.0)
        )
        self.bounds = black, white

    @torch.no_grad()
    def step(self, rate):
        """Update the images by Adam, clamp them to the range of pixels, clear the gradient."""
        self.adam.step(rate)
        self.images.clamp_(*self.bounds)
        if self.average is not None:
            self.average.lerp_(self.images, 1 - self.settings["flatness"]["beta"])

    def state(self):
        """Return {name: tensor} of the state, without the observers' running statistics."""
        state = {"images": self.images.detach(), **self.adam.state()}
        return state if self.average is None else {**state, "average": self.average}

    @torch.no_grad()
    def restore(self, state):
        """Continue from a `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class MatchedBatch(Optimised):
    """A batch that is optimised by the losses of observers.

    Parameters
    ----------
    batch : Batch
        Changed in place.
    observers : list of Observer
        Iterations cycle through them, starting with the first (``observer_order: restart``), or
        with the one after the last of the previous batch (``continued``).
    """

    def __init__(self, batch, observers):
        self.batch, self.observers, settings = batch, observers, batch.settings
        number, continued = batch.keys["batch"], settings.get("observer_order") == "continued"
        self.first = number * settings["iterations"] if continued else 0
        self.name, self.learning_rate = f"batch {number}", settings["learning_rate"]

    def step(self, iteration):
        """Update the batch by one observer; return its weighted losses."""
        observer = self.observers[(self.first + iteration) % len(self.observers)]
        values = losses.backward(self.batch, observer, iteration)
        if iteration % VERIFIED == 0:
            verify(self.batch, self.observers)
        self.batch.step(learning_rate(self.batch.settings, iteration))
        return values

    def snapshot(self):
        """Return the first images of the first classes, see `Optimised`."""
        images = self.batch.images[first_of_classes(self.batch.labels)]
        return torch.from_numpy(normalised_to_bytes(images))

    def state(self):
        """Return the state of the batch, and the observers' running statistics."""
        state = {f"batch.{name}": tensor for name, tensor in self.batch.state().items()}
        for i, observer in enumerate(self.observers):
            memory = observer.matching.memory if observer.matching else {}
            state |= {f"memory.{i}.{name}": tensor for name, tensor in memory.items()}
        return state

    def restore(self, state):
        """Continue from a `state`."""
        self.batch.restore(select_prefix(state, "batch."))
        device = self.batch.images.device
        for i, observer in enumerate(self.observers):
            if observer.matching:
                memory = select_prefix(state, f"memory.{i}.")
                observer.matching.memory = {k: tensor.to(device) for k, tensor in memory.items()}


@torch.no_grad()
def verify(batch, observers):
    """Update the running statistics of the setting ``verifier`` with the complete images.

    In the official code for small images, the network that reports the accuracy of the images
    during their synthesis is an observer, and its hooks are active (EDC recover.py:470 and :289,
    the first observer; G-VBSM, the last one). The loss of later iterations therefore depends on it;
    its call after the last iteration changes nothing in a batch.

    Parameters
    ----------
    batch : Batch
        ``verifier`` of its settings: ``first`` or ``last``; none if missing.
    observers : list of Observer
    """
    places = {"first": 0, "last": -1}
    place = places.get(batch.settings.get("verifier"))
    if place is None or observers[place].matching is None:
        return
    images = batch.images.contiguous(memory_format=loop.memory_format(batch.settings))
    with loop.autocast(batch.settings, images.device):
        _, recorded = observers[place](images)
    observers[place].matching(recorded)


def learning_rate(settings, iteration):
    """Return the learning rate of an iteration: constant, or half a cosine to zero."""
    share = iteration / settings["iterations"]
    factor = half_cosine(share) if settings["schedule"] == "cosine" else 1.0
    return settings["learning_rate"] * factor
