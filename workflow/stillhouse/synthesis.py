"""Synthesis of images by gradient descent on what frozen teachers, the observers, make of them.

SRe2L (Yin et al., NeurIPS 2023), G-VBSM (Shao et al., CVPR 2024) and EDC (Shao et al., NeurIPS
2024) are settings of this one loop; `stillhouse.switches` says which.
"""

import math

import numpy as np
import pyarrow as pa
import torch
from torch.optim.adam import adam

from stillhouse import artifacts, statistics, terms, training
from stillhouse.artifacts import RowGroups
from stillhouse.distilled import read_set, whole_image
from stillhouse.errors import StillhouseError
from stillhouse.images import IMAGE, encode, read_class
from stillhouse.matching import Matching, targets
from stillhouse.progress import track
from stillhouse.seeds import generator, permutation
from stillhouse.slots import batches
from stillhouse.spec import class_of
from stillhouse.teachers import load_teacher
from stillhouse.training import SideFile
from stillhouse.transforms import MEAN, STD, normalise
from stillhouse.watching import Watch

SCHEMA = pa.schema([("image", IMAGE), ("class_id", pa.string()), ("index", pa.int32())])
# Entries of a curve, and pictures of the way, whatever the number of iterations.
CURVE, PICTURES = 100, 4
BETAS, EPSILON = (0.5, 0.9), 1e-8


def synthesis(inputs, spec, context):
    """Stage: synthesise batches of a set's images, each alone."""
    settings, keys, device = spec["settings"], spec["keys"], context.torch_device()
    classes = settings["classes"]
    several = batches(settings["order"], len(classes), keys["ipc"], settings["batch_size"])

    def make(number, context):
        slots, own = several[number], {**keys, "batch": number}
        labels = torch.tensor([label for label, _ in slots])
        start = initial(slots, inputs, settings, own, context.roots)
        batch = Batch(start.to(device), labels.to(device), settings, own)
        observers = [
            observer(batch, *files, settings, device) for files in _observers(inputs, settings)
        ]
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
            for image, (label, index) in zip(to_bytes(batch.images), slots, strict=True)
        )
        return {
            "curve.json": curve,
            "pictures.safetensors": {"pictures": pictures},
            "images.parquet": RowGroups(SCHEMA, rows),
        }

    return make


def _observers(inputs, settings):
    collected = inputs.get("statistics") or [None] * len(inputs["teachers"])
    return zip(inputs["teachers"], collected, strict=True)


def initial(slots, inputs, settings, keys, roots):
    """Return the images that synthesis starts from, normalised, (n, 3, side, side) float32.

    ``noise``: standard normals. ``real``: images of the class, drawn at random; a method's name:
    those of its distilled set. Either mirrored by chance; ``distinct``: each image once while there
    are enough, ``replacement``: drawn anew for every image (C EDC recover.py).

    Parameters
    ----------
    slots : list of (int, int)
        Class and index of each image.
    """
    side, classes = settings["resolution"], settings["classes"]
    draw = lambda label, index: generator(  # noqa: E731
        keys["seed"], "initial", classes[label], index
    )
    if settings["initial"] == "noise":
        noise = [draw(*slot).standard_normal((3, side, side), np.float32) for slot in slots]
        return torch.from_numpy(np.stack(noise))
    read = _from_set(inputs) if "initial" in inputs else _real(inputs, settings, roots)
    wanted = {label: read(label) for label in dict.fromkeys(label for label, _ in slots)}
    pixels = []
    for label, index in slots:
        count, at = wanted[label]
        chances = draw(label, index).random(2)
        place = int(chances[0] * count)
        if settings["initial_draw"] == "distinct":
            rng = generator(keys["seed"], "initial order", classes[label])
            order = permutation(rng, count) if settings["initial"] == "real" else range(count)
            place = int(order[index % count])
        image = at(place)
        pixels.append(image[:, :, ::-1] if chances[1] < settings["flip"] else image)
    return normalise(torch.from_numpy(np.stack(pixels)))


def _from_set(inputs):
    pixels, labels = read_set(artifacts.read_table(inputs["initial"][0]))

    def read(label):
        rows = np.flatnonzero(labels == label)
        return len(rows), lambda place: pixels[rows[place]]

    return read


def _real(inputs, settings, roots):
    files = {class_of(path): path for path in inputs["images"]}

    def read(label):
        rows = read_class(files[settings["classes"][label]], "train", roots)
        return len(rows), lambda place: whole_image(*rows[place], settings["resolution"])[0]

    return read


def observer(batch, model, collected, settings, device):
    """Return (watch, matching) of an observer for a batch.

    Parameters
    ----------
    batch : Batch
    model, collected : Path
        Its ``model.safetensors``, and its ``statistics.safetensors`` or None.
    """
    net, its, _ = load_teacher(model, device)
    net.to(memory_format=training.memory_format(settings))
    watch = Watch(net, settings["kinds"], settings["tile"])
    kept = statistics.read(collected, settings["classes"]) if collected else None
    with torch.no_grad():
        _, moments = watch(batch.images[:1])
    own = torch.tensor([its.index(class_id) for class_id in settings["classes"]], device=device)
    matching = None
    if settings["kinds"] and not moments:
        raise StillhouseError(
            f"{model}: has none of the layers to be matched ({', '.join(settings['kinds'])}); "
            "another observer is needed"
        )
    if moments:
        wanted = targets(net, moments, kept, settings, device)
        matching = Matching(wanted, batch.labels, settings, settings["weights"])
    return Observer(watch, matching, own)


class Observer:
    """A watched network, what its layers should see, and where it says the dataset's classes."""

    def __init__(self, watch, matching, outputs):
        self.watch, self.matching, self.outputs = watch, matching, outputs

    def __call__(self, images):
        """Return (logits of the dataset's classes, moments)."""
        logits, moments = self.watch(images)
        return logits.float()[:, self.outputs], moments


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
        self.first, self.second = torch.zeros_like(images), torch.zeros_like(images)
        self.steps = torch.zeros(())
        self.average = images.detach().clone()
        black, white = (
            normalise(torch.full((1, 3, 1, 1), value, device=images.device))
            for value in (0.0, 255.0)
        )
        self.bounds = black, white

    def step(self, rate):
        """Move the images by their gradient, into the range of pixels, and forget the gradient."""
        with torch.no_grad():
            adam(
                *([self.images], [self.images.grad], [self.first], [self.second], [], [self.steps]),
                **{"amsgrad": False, "beta1": BETAS[0], "beta2": BETAS[1], "lr": rate},
                **{"weight_decay": 0.0, "eps": EPSILON, "maximize": False},
            )
            self.images.clamp_(*self.bounds)
            if "beta" in self.settings["flatness"]:
                self.average.lerp_(self.images, 1 - self.settings["flatness"]["beta"])
        self.images.grad = None

    def state(self):
        """Return all that the next step depends on but the observers' memories, by name."""
        return {
            "images": self.images.detach(),
            "first": self.first,
            "second": self.second,
            "steps": self.steps,
            "average": self.average,
        }

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
    side : stillhouse.training.SideFile

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
        curve.add(terms.descend(batch, observers[number % len(observers)], i))
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


def rate(settings, iteration):
    """Return the learning rate of an iteration: constant, or half a cosine down to zero."""
    share = iteration / settings["iterations"]
    factor = 0.5 * (1 + math.cos(math.pi * share)) if settings["schedule"] == "cosine" else 1.0
    return settings["learning_rate"] * factor


def to_bytes(images):
    """Return normalised images as (n, 3, side, side) uint8, rounded to the nearest."""
    mean, std = (images.new_tensor(side)[:, None, None] for side in (MEAN, STD))
    pixels = (images.detach() * std + mean) * 255
    return pixels.round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _picture(batch):
    rows = {int(label): i for i, label in reversed(list(enumerate(batch.labels.tolist())))}
    some = [rows[label] for label in sorted(rows)[:10]]
    return torch.from_numpy(to_bytes(batch.images[some]))


def _save(batch, observers, curve, side, done, pictures):
    tensors = {f"batch.{name}": t for name, t in batch.state().items()}
    for i, one in enumerate(observers):
        memory = one.matching.memory if one.matching else {}
        tensors |= {f"memory.{i}.{name}": t for name, t in memory.items()}
    tensors |= {f"sum.{name}": value for name, value in curve.sums.items()}
    values = {"done": done, "means": curve.means, "counts": curve.counts}
    side.save({**tensors, "pictures": pictures}, values)
    _show(pictures, side.path.with_name("pictures.png"))


def _show(pictures, path):
    """Write what there is of the pictures beside a side file, for who wants to look on."""
    rows = [np.concatenate(list(row.numpy()), 2) for row in pictures]
    path.write_bytes(encode(np.concatenate(rows, 1), "png"))


def _restore(batch, observers, curve, tensors, values):
    """Put back what was saved; return the number of iterations that are done."""
    batch.restore(training.part(tensors, "batch."))
    on_device = lambda name: {  # noqa: E731
        k: v.to(batch.images.device) for k, v in training.part(tensors, name).items()
    }
    for i, one in enumerate(observers):
        if one.matching:
            one.matching.memory = on_device(f"memory.{i}.")
    curve.means, curve.counts, curve.sums = values["means"], values["counts"], on_device("sum.")
    return values["done"]
