"""Students: networks trained from scratch on a distilled set, tested on real images."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, softmax

from stillhouse import artifacts, nets, training
from stillhouse.distilled import SCHEMA, read_set
from stillhouse.images import load_split
from stillhouse.labels import Judges, Table
from stillhouse.transforms import normalise
from stillhouse.views import draw, render


def students(inputs, spec, context):
    """Stage: train one student a seed and test it."""
    settings, device = spec["settings"], context.torch_device()
    (path,) = inputs["set"]
    of_set = artifacts.read_spec(path.parent)["settings"]
    classes, resolution = of_set["classes"], of_set["resolution"]
    pixels, hard = read_set(artifacts.read_table(path, schema=SCHEMA))
    images, hard = torch.from_numpy(pixels).to(device), torch.from_numpy(np.array(hard)).to(device)
    test = tuple(part.to(device) for part in load_split(inputs["images"], classes, resolution, "test"))
    lessons = {"hard": HardLabels, "online": OnlineLabels, "soft": StoredLabels}[
        settings["labels"]["kind"]
    ](settings["labels"], images, hard, len(classes), inputs, classes)

    def make(seed, context):
        net = nets.build(settings["network"], len(classes), resolution, seed, "student")
        cell = train(net.to(device), lessons, test, settings["training"], seed, context)
        return {"cell.json": cell}

    return make


class HardLabels:
    """The class of each image, views drawn for each student; mixed where the view is.

    ``epoch(epoch, seed)`` returns (views on the device, targets); ``targets[start:stop]`` go to
    the loss. The other kinds of labels have the same interface.
    """

    def __init__(self, settings, images, hard, n_classes, inputs=None, classes=None):
        self.settings, self.images, self.hard = settings, images, hard
        self.batch_size, self.n_classes = settings["batch_size"], n_classes
        self.prepare(inputs or {}, classes)

    def prepare(self, inputs, classes):
        """Load what the labels need beside the distilled set."""

    def draw(self, epoch, seed):
        """Return the views of an epoch."""
        return draw(
            self.settings["views"],
            seed,
            epoch,
            len(self.images),
            self.images.shape[-1],
            self.batch_size,
        ).to(self.images.device)

    def epoch(self, epoch, seed):
        """Return (views, target distributions) of an epoch."""
        views = self.draw(epoch, seed)
        own = torch.nn.functional.one_hot(self.hard[views.index], self.n_classes).float()
        if views.mix == "none":
            return views, own
        return views, torch.lerp(own[views.partner], own, views.mix_weight[:, None])


class StoredLabels(HardLabels):
    """A table of teacher outputs; the views are the stored ones, the same for every student."""

    def prepare(self, inputs, classes):
        """Open the table."""
        self.table = Table(inputs["labels"][0], self.n_classes)

    def epoch(self, epoch, seed):
        """Return (views, logits) of an epoch."""
        views, logits = self.table.epoch(epoch)
        return views.to(self.images.device), torch.from_numpy(logits).to(self.images.device)


class OnlineLabels(HardLabels):
    """Teachers in the loop, on the views that a table of the same seed would store."""

    def prepare(self, inputs, classes):
        """Load the teachers."""
        self.judges = Judges(inputs["teachers"], classes, self.images.device)

    def epoch(self, epoch, seed):
        """Return (views, logits) of an epoch."""
        views = self.draw(epoch, self.settings["seed"])
        n, step = len(self.images), self.batch_size
        starts = range(0, n, step)
        parts = [self.judges(render(self.images, views, i, min(i + step, n))) for i in starts]
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


def train(net, lessons, test, settings, seed, context):
    """Train one student and return its cell.

    Parameters
    ----------
    net : torch.nn.Module
    lessons : HardLabels or its kin
    test : (images, labels)
        Real images, (n, 3, side, side) uint8, and their labels.
    settings : dict
        The protocol as `stillhouse.switches.protocol` decides it.
    seed : int
    context : stillhouse.jobs.Context

    Returns
    -------
    dict
        ``accuracy`` and ``accuracy_top5`` after the last epoch, ``accuracy_best`` of the
        evaluations in the last fifth [%], ``n_parameters``, ``curve``.
    """
    loss = make_loss(settings)
    nets.set_batchnorm_updates(net, settings["batchnorm_updates"])
    net.to(memory_format=training.memory_format(settings))
    wanted = evaluation_epochs(settings["epochs"])
    n, size = len(lessons.images), lessons.batch_size

    def batches(epoch):
        views, targets = lessons.epoch(epoch, seed)
        starts = range(0, n, size)
        return len(starts), (one(views, targets, i, min(i + size, n)) for i in starts)

    def one(views, targets, start, stop):
        inputs = render(lessons.images, views, start, stop)
        hard = lessons.hard[views.index[start:stop]]
        return inputs, lambda outputs: loss(outputs, targets[start:stop], hard)

    def evaluate(net, epoch):
        if epoch not in wanted:
            return {}
        outputs = training.logits(net, test[0], context.batch_size, normalise, settings)
        top1, top5 = training.accuracies(outputs, test[1])
        return {"accuracy": top1, "accuracy_top5": top5}

    curve = training.fit(net, settings, batches, evaluate, context, f"student {seed} epoch", seed)
    return {
        "accuracy": curve[-1]["accuracy"],
        "accuracy_top5": curve[-1]["accuracy_top5"],
        "accuracy_best": max(row["accuracy"] for row in curve if "accuracy" in row),
        "n_parameters": sum(p.numel() for p in net.parameters()),
        "curve": curve,
    }
