"""Students: networks trained from scratch on a distilled set, tested on real images."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, one_hot, softmax

from stillhouse.artifacts import store
from stillhouse.augmentation.views import draw, render
from stillhouse.data.class_images import load_split
from stillhouse.data.distilled_set import SCHEMA, read_set
from stillhouse.data.transforms import normalise
from stillhouse.evaluation.soft_labels import Judges, Table
from stillhouse.networks import registry
from stillhouse.networks.batchnorm import set_batchnorm_updates
from stillhouse.training import loop


def students(inputs, spec, context):
    """Stage: train one student a seed and test it."""
    settings, device = spec["settings"], context.torch_device()
    path = inputs["distilled"]
    of_set = store.read_spec(path.parent)["settings"]
    classes, resolution = of_set["classes"], of_set["resolution"]
    pixels, hard = read_set(store.read_table(path, schema=SCHEMA))
    images, hard = torch.from_numpy(pixels).to(device), torch.from_numpy(np.array(hard)).to(device)
    whole = settings["training"].get("test_view") == "whole"
    test = load_split(inputs["images"], classes, resolution, "test", context.source_roots, whole)
    test = tuple(part.to(device) for part in test)
    lessons = open_labels(settings["labels"], images, hard, classes, inputs)

    def make(seed, context):
        net = registry.build(settings["network"], len(classes), resolution, seed, "student")
        cell = train(net.to(device), lessons, test, settings["training"], seed, context)
        return {"cell.json": cell}

    return make


def open_labels(settings, images, hard, classes, inputs):
    """Return the labels that `settings` describe; see `HardLabels` for what they can do.

    Parameters
    ----------
    settings : dict
        ``kind``, ``batch_size``, and for drawn views ``views`` and ``seed``.
    images : (n, 3, side, side) uint8 tensor
    hard : (n,) int64 tensor
    classes : list of str
    inputs : dict
        ``labels``: the table; ``teachers``: weights; as the kind wants.
    """
    if settings["kind"] == "soft":
        path = inputs["labels"]
        return StoredLabels(settings, images, hard, len(classes), Table(path, len(classes)))
    if settings["kind"] == "online":
        judges = Judges(inputs["teachers"], classes, images.device)
        return OnlineLabels(settings, images, hard, len(classes), judges)
    return HardLabels(settings, images, hard, len(classes))


@dataclass
class HardLabels:
    """The class of each image, for views drawn anew for each student; mixed as the views are."""

    settings: dict
    images: torch.Tensor
    hard: torch.Tensor
    n_classes: int
    source: object = None
    # A student's own views are not those of the label table that happens to have its seed.
    stage: ClassVar[str] = "student views"

    def epoch(self, epoch, seed):
        """Return (views, target distributions) of an epoch, on the device."""
        views = self.draw(epoch, seed)
        own = one_hot(self.hard[views.index], self.n_classes).float()
        if views.mix == "none":
            return views, own
        return views, torch.lerp(own[views.partner], own, views.mix_weight[:, None])

    def draw(self, epoch, seed):
        """Return the views of an epoch, on the device."""
        n, side = self.images.shape[0], self.images.shape[-1]
        batch_size = self.settings["batch_size"]
        views = draw(self.settings["views"], seed, epoch, n, side, batch_size, self.stage)
        return views.to(self.images.device)


class StoredLabels(HardLabels):
    """A table of teacher outputs; the views are the stored ones, the same for every student."""

    def epoch(self, epoch, seed):
        """Return (views, logits) of an epoch, on the device."""
        views, logits = self.source.epoch(epoch)
        return views.to(self.images.device), torch.from_numpy(logits).to(self.images.device)


class OnlineLabels(HardLabels):
    """Teachers in the loop, on the views that a table of the same seed would store."""

    stage: ClassVar[str] = "views"

    def epoch(self, epoch, seed):
        """Return (views, logits) of an epoch, on the device."""
        views = self.draw(epoch, self.settings["seed"])
        n, step = len(self.images), self.settings["batch_size"]
        starts = range(0, n, step)
        parts = [self.source(render(self.images, views, i, min(i + step, n))) for i in starts]
        return views, torch.cat(parts)


def make_loss(settings):
    """Return the loss of a protocol: loss(outputs, targets, hard) → scalar.

    - ``ce``: cross-entropy against target distributions.
    - ``kl``: KL(softmax(t / T) ‖ softmax(s / T)), summed over classes, mean over rows, without the
      factor T² (RDED validation/main.py, where it is left out).
    - ``mse_ce``: mean squared error of the logits + `ce_weight` × cross-entropy against the row's
      own class (G-VBSM, EDC).
    """
    if settings["loss"] == "ce":
        return lambda outputs, targets, hard: cross_entropy(outputs, targets)
    if settings["loss"] == "kl":
        temperature = settings["temperature"]
        return lambda outputs, targets, hard: kl_div(
            log_softmax(outputs / temperature, 1),
            softmax(targets / temperature, 1),
            reduction="batchmean",
        )
    weight = settings["ce_weight"]
    return lambda outputs, targets, hard: (
        mse_loss(outputs, targets) + weight * cross_entropy(outputs, hard)
    )


def evaluation_epochs(epochs):
    """Return the epochs (from 1) after which a student is tested: every tenth of the last fifth."""
    return {e for e in range(epochs, 0, -10) if e >= 0.8 * epochs}


def batches(lessons, loss, seed, epoch):
    """Return (steps, their (inputs, loss of outputs)) of one epoch, for `training.loop.fit`.

    Parameters
    ----------
    lessons : HardLabels or its kin
    loss : callable
        As `make_loss` returns it.
    seed, epoch : int
    """
    views, targets = lessons.epoch(epoch, seed)
    n, size = len(lessons.images), lessons.settings["batch_size"]

    def one(start, stop):
        inputs = render(lessons.images, views, start, stop)
        hard = lessons.hard[views.index[start:stop]]
        return inputs, lambda outputs: loss(outputs, targets[start:stop], hard)

    starts = range(0, n, size)
    return len(starts), (one(start, min(start + size, n)) for start in starts)


def train(net, lessons, test, settings, seed, context):
    """Train one student and return its cell.

    Parameters
    ----------
    net : torch.nn.Module
    lessons : HardLabels or its kin
    test : (images, labels)
        Real images, (n, 3, side, side) uint8, and their labels.
    settings : dict
        The protocol as `stillhouse.config.protocols.protocol` decides it.
    seed : int
    context : stillhouse.artifacts.jobs.Context

    Returns
    -------
    dict
        ``accuracy`` and ``accuracy_top5`` after the last epoch, ``accuracy_best`` of the
        evaluations in the last fifth [%], ``n_parameters``, ``curve``.
    """
    loss = make_loss(settings)
    set_batchnorm_updates(net, settings.get("batchnorm_updates", 1))
    net.to(memory_format=loop.memory_format(settings))
    wanted = evaluation_epochs(settings["epochs"])

    def evaluate(net, epoch):
        if epoch not in wanted:
            return {}
        outputs = loop.logits(net, test[0], context.batch_size, normalise, settings)
        top1, top5 = loop.accuracies(outputs, test[1])
        return {"accuracy": top1, "accuracy_top5": top5}

    steps = functools.partial(batches, lessons, loss, seed)
    curve = loop.fit(net, settings, steps, evaluate, context, "student", seed)
    return {
        "accuracy": curve[-1]["accuracy"],
        "accuracy_top5": curve[-1]["accuracy_top5"],
        "accuracy_best": max(row["accuracy"] for row in curve if "accuracy" in row),
        "n_parameters": sum(p.numel() for p in net.parameters()),
        "curve": curve,
    }
