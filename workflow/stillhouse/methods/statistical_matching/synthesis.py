"""Synthesis of images by gradient descent on what frozen teachers, the observers, make of them.

SRe2L (Yin et al., NeurIPS 2023), G-VBSM (Shao et al., CVPR 2024) and EDC (Shao et al., NeurIPS
2024) are settings of this one loop; `stillhouse.methods.statistical_matching.fidelity` says which.
"""

import math

import numpy as np
import pyarrow as pa
import torch
from torch.optim.adam import adam

from stillhouse.artifacts.progress import track
from stillhouse.artifacts.store import RowGroups
from stillhouse.data.codecs import IMAGE, encode
from stillhouse.data.transforms import normalise, normalised_to_bytes
from stillhouse.methods.common.initialization import initial
from stillhouse.methods.statistical_matching import losses
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.methods.statistical_matching.observers import load_observer
from stillhouse.training import loop
from stillhouse.training.loop import SideFile

SCHEMA = pa.schema([("image", IMAGE), ("class_id", pa.string()), ("index", pa.int32())])
WAY = pa.schema([("iteration", pa.int32()), ("image", IMAGE)])
# Entries of a curve, and pictures of the way, whatever the number of iterations.
CURVE, PICTURES = 100, 4
BETAS, EPSILON = (0.5, 0.9), 1e-8


def synthesis(inputs, spec, context):
    """Stage: synthesise batches of a set's images, each alone."""
    settings, keys, device = spec["settings"], spec["keys"], context.torch_device()
    classes = settings["classes"]
    several = batches(settings, keys)
    collected = inputs.get("statistics") or [None] * len(inputs["teachers"])
    loaded = [
        load_observer(*files, settings, device)
        for files in zip(inputs["teachers"], collected, strict=True)
    ]

    def make(number, context):
        slots, own = several[number], {**keys, "batch": number}
        labels = torch.tensor([label for label, _ in slots])
        start = initial(slots, inputs, settings, own, context.source_roots)
        batch = Batch(start.to(device), labels.to(device), settings, own)
        observers = [of(batch) for of in loaded]
        curve, pictures = synthesise(batch, observers, SideFile(context))
        # A row group an image: a set is put together class by class.
        rows = (
            pa.table(
                {
                    "image": [{"bytes": encode(image, "png"), "path": None}],
                    "class_id": [classes[label]],
                    "index": [index],
                },
                schema=SCHEMA,
            )
            for image, (label, index) in zip(normalised_to_bytes(batch.images), slots, strict=True)
        )
        return {
            "curve.json": curve,
            "pictures.parquet": picture_table(pictures, settings["iterations"]),
            "images.parquet": RowGroups(SCHEMA, rows),
        }

    return make


class Batch:
    """Images that are synthesised together, and all that their next step depends on.

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
        self.alike = losses.alike(labels)
        self.first, self.second = torch.zeros_like(images), torch.zeros_like(images)
        self.steps = torch.zeros(())
        # Of the images over the iterations, for what draws towards it.
        self.average = images.detach().clone() if "beta" in settings["flatness"] else None
        black, white = (
            normalise(torch.full((1, 3, 1, 1), value, device=images.device))
            for value in (0.0, 255.0)
        )
        self.bounds = black, white

    def step(self, rate):
        """Move the images by their gradient, into the range of pixels, and forget the gradient."""
        with torch.no_grad():
            adam(
                [self.images],
                [self.images.grad],
                [self.first],
                [self.second],
                [],
                [self.steps],
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=rate,
                weight_decay=0.0,
                eps=EPSILON,
                maximize=False,
            )
            self.images.clamp_(*self.bounds)
            if self.average is not None:
                self.average.lerp_(self.images, 1 - self.settings["flatness"]["beta"])
        self.images.grad = None

    def state(self):
        """Return all that the next step depends on but the observers' memories, by name."""
        found = {
            "images": self.images.detach(),
            "first": self.first,
            "second": self.second,
            "steps": self.steps,
        }
        return found if self.average is None else {**found, "average": self.average}

    def restore(self, state):
        """Go on from a `state`."""
        with torch.no_grad():
            for name, tensor in self.state().items():
                tensor.copy_(state[name])


def synthesise(batch, observers, side):
    """Descend; return (curve, pictures).

    Parameters
    ----------
    batch : Batch
        Changed in place.
    observers : list of Observer
        One a step, in turn.
    side : stillhouse.training.loop.SideFile

    Returns
    -------
    curve : dict of str to list of float or None
        Mean of each term, weighted, over every hundredth of the iterations; see `Curve`.
    pictures : (5, up to 10, 3, side, side) uint8 tensor
        The first image of up to ten classes at the start, after each quarter, and at the end.
    """
    settings, count = batch.settings, batch.settings["iterations"]
    curve, pictures, start = Curve(), [_picture(batch)], 0
    stored = side.load()
    if stored is not None:
        start = _restore(batch, observers, curve, *stored)
        pictures = list(stored[0]["pictures"])
        print(f"synthesis: continues after iteration {start}", flush=True)
    every, shown = -(-count // CURVE), set(pictured(count))
    for i in track(range(start, count), count - start, "iterations", curve.last):
        number = batch.keys["batch"] * count + i if settings.get("turns") == "continued" else i
        curve.add(losses.descend(batch, observers[number % len(observers)], i))
        batch.step(rate(settings, i))
        last = i + 1 == count
        if (i + 1) % every == 0 or last:
            curve.close()
        if i + 1 in shown:
            pictures.append(_picture(batch))
        if side.due(last=last):
            _save(batch, observers, curve, side, i + 1, torch.stack(pictures))
    return curve.means, torch.stack(pictures)


class Curve:
    """Means of the loss's terms over stretches of iterations.

    ``means`` is a dict of str to list of float, as long as there are stretches; None where no
    observer of a stretch has the term.
    """

    def __init__(self):
        self.means, self.sums, self.counts = {}, {}, {}

    def add(self, terms):
        """Take the terms of one iteration, scalar tensors by name."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1

    def close(self):
        """End a stretch."""
        done = max(map(len, self.means.values()), default=0)
        for name in self.sums.keys() | self.means.keys():
            found = self.means.setdefault(name, [None] * done)
            mean = float(self.sums[name]) / self.counts[name] if name in self.sums else None
            found.append(None if mean is None else round(mean, 6) + 0.0)  # no -0.0
        self.sums, self.counts = {}, {}

    def last(self):
        """Return the newest means as text."""
        return " ".join(f"{k} {v[-1]:.4f}" for k, v in sorted(self.means.items()) if v[-1])


def pictured(count):
    """Return the numbers of iterations after which a picture is kept: none, each quarter, all."""
    return sorted({count * i // PICTURES for i in range(PICTURES + 1)})


def picture_table(pictures, count):
    """Return the table of a batch's pictures over `count` iterations, time after time."""
    rows = [
        {"iteration": done, "image": {"bytes": encode(image, "png"), "path": None}}
        for done, images in zip(pictured(count), pictures.numpy(), strict=True)
        for image in images
    ]
    return pa.Table.from_pylist(rows, WAY)


def rate(settings, iteration):
    """Return the learning rate of an iteration: constant, or half a cosine down to zero."""
    share = iteration / settings["iterations"]
    factor = 0.5 * (1 + math.cos(math.pi * share)) if settings["schedule"] == "cosine" else 1.0
    return settings["learning_rate"] * factor


def _picture(batch):
    rows = {int(label): i for i, label in reversed(list(enumerate(batch.labels.tolist())))}
    some = [rows[label] for label in sorted(rows)[:10]]
    return torch.from_numpy(normalised_to_bytes(batch.images[some]))


def _save(batch, observers, curve, side, done, pictures):
    tensors = {f"batch.{name}": t for name, t in batch.state().items()}
    for i, one in enumerate(observers):
        memory = one.matching.memory if one.matching else {}
        tensors |= {f"memory.{i}.{name}": t for name, t in memory.items()}
    tensors |= {f"sum.{name}": value for name, value in curve.sums.items()}
    values = {"done": done, "means": curve.means, "counts": curve.counts}
    side.save({**tensors, "pictures": pictures}, values)
    now = torch.cat([pictures, _picture(batch)[None]])
    _show(now, side.path.with_name("pictures.png"))


def _show(pictures, path):
    """Write what there is of the pictures beside a side file, for who wants to look on."""
    rows = [np.concatenate(list(row.numpy()), 2) for row in pictures]
    path.write_bytes(encode(np.concatenate(rows, 1), "png"))


def _restore(batch, observers, curve, tensors, values):
    """Put back what was saved; return the number of iterations that are done."""
    batch.restore(loop.part(tensors, "batch."))
    on_device = lambda name: {  # noqa: E731
        k: v.to(batch.images.device) for k, v in loop.part(tensors, name).items()
    }
    for i, one in enumerate(observers):
        if one.matching:
            one.matching.memory = on_device(f"memory.{i}.")
    curve.means, curve.counts, curve.sums = values["means"], values["counts"], on_device("sum.")
    return values["done"]
