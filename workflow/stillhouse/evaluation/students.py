"""Students: networks trained from scratch on a set or on full data, tested on real images."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, softmax

from stillhouse.artifacts import store
from stillhouse.augmentation.views import render
from stillhouse.config.protocols import tested_epochs
from stillhouse.data.distilled_set import SCHEMA, read_learned, read_set
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import normalise
from stillhouse.data.whitening import preparation
from stillhouse.errors import StillhouseError
from stillhouse.evaluation.full_data import labels_of_full_data
from stillhouse.evaluation.label_sources import open_labels
from stillhouse.networks import registry
from stillhouse.networks.batchnorm import set_batchnorm_updates
from stillhouse.training import loop


def students(inputs, spec, context):
    """Stage: train one student per seed, on a distilled set or on full data, and test it."""
    if "distilled" in inputs:
        path = inputs["distilled"]
        dataset = store.read_spec(path.parent)["settings"]
        training = with_learned_rate(spec["settings"]["training"], path)
        labels = labels_of_set(inputs, spec, dataset["classes"], context)
    else:
        dataset, training = spec["settings"], spec["settings"]["training"]
        labels = labels_of_full_data(inputs, spec, context)
    return Students(inputs, spec, dataset, labels, training, context)


def labels_of_set(inputs, spec, classes, context):
    """Return the `LabelSource` of a distilled set, in memory on the device."""
    device = context.torch_device()
    pixels, hard = read_set(store.read_table(inputs["distilled"], schema=SCHEMA))
    images, hard = (torch.from_numpy(np.array(part)).to(device) for part in (pixels, hard))
    return open_labels(spec["settings"]["labels"], images, hard, classes, inputs)


class Students:
    """Students of all seeds, with the test images, which are loaded once.

    Parameters
    ----------
    inputs, spec : dict
    dataset : dict
        ``classes`` and ``resolution``.
    labels : stillhouse.evaluation.label_sources.LabelSource
    training : dict
        The protocol as `stillhouse.config.protocols.for_cell` returns it, its rate a number.
    context : stillhouse.artifacts.context.Context
    """

    def __init__(self, inputs, spec, dataset, labels, training, context):
        self.network, self.device = spec["settings"]["network"], context.torch_device()
        self.classes, self.resolution = dataset["classes"], dataset["resolution"]
        self.labels, self.training = labels, training
        self.prepare = preparation(inputs, self.device)
        test = load_split(
            inputs["images"],
            self.classes,
            self.resolution,
            "test",
            context.source_roots,
            whole=self.training["test_crop"] == "center_square",
        )
        self.test = tuple(tensor.to(self.device) for tensor in test)

    def __call__(self, seed, context):
        """Return the file of the student of one seed."""
        n_classes = len(self.classes)
        net = registry.build(self.network, n_classes, self.resolution, seed, "student")
        net.to(self.device)
        try:
            cell = train(net, self.labels, self.test, self.training, seed, context, self.prepare)
        except loop.Diverged as error:
            if context.extra.get("on_divergence") != "mark":
                raise StillhouseError(
                    f"{error}, or set on_divergence: mark to leave it out of the table's means"
                ) from None
            print(f"{error}; the cell is marked as diverged", flush=True)
            cell = diverged_cell(net, error.curve)
        return {"cell.json": cell}


def diverged_cell(net, curve):
    """Return the cell of a student that diverged: no accuracies, the curve until then."""
    accuracies = dict.fromkeys(("accuracy", "accuracy_top5", "accuracy_best"))
    return {
        **accuracies,
        "diverged": True,
        "n_parameters": sum(p.numel() for p in net.parameters()),
        "curve": curve,
    }


def with_learned_rate(training, path):
    """Return training settings, with the learning rate of the distilled set if it is ``learned``.

    Parameters
    ----------
    training : dict
    path : Path
        ``images.parquet`` of the set.

    Raises
    ------
    StillhouseError
        If the set has no learning rate.
    """
    if training["learning_rate"] != "learned":
        return training
    learned = read_learned(path)
    if learned is None or learned.learning_rate is None:
        raise StillhouseError(
            f"{path}: learning_rate: missing metadata; set the protocol's learning_rate, or use a "
            "method that learns it"
        )
    return {**training, "learning_rate": learned.learning_rate}


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


def batches(labels, loss, seed, epoch, bounds, prepare=normalise):
    """Return (steps, their (inputs, loss of outputs)) of one epoch, for `training.loop.fit`.

    Parameters
    ----------
    labels : stillhouse.evaluation.label_sources.LabelSource
    loss : callable
        As `make_loss` returns it.
    seed, epoch : int
    bounds : list of (int, int)
        Rows of each step, see `training.loop.step_bounds`.
    prepare : callable
        See `train`.
    """
    views, targets = labels.epoch(epoch, seed)

    def batch(start, stop):
        inputs = render(labels.images, views, start, stop, prepare)
        hard = labels.hard[views.index[start:stop]]
        return inputs, lambda outputs: loss(outputs, targets[start:stop], hard)

    return len(bounds), (batch(start, stop) for start, stop in bounds)


def train(net, labels, test, settings, seed, context, prepare=normalise):
    """Train one student and return its cell.

    Parameters
    ----------
    net : torch.nn.Module
    labels : stillhouse.evaluation.label_sources.LabelSource
    test : (images, labels)
        Real images, (n, 3, side, side) uint8, and their labels.
    settings : dict
        The protocol as `stillhouse.config.protocols.for_cell` returns it.
    seed : int
    context : stillhouse.artifacts.context.Context
    prepare : callable
        From pixels to inputs of networks, see `stillhouse.data.whitening.preparation`.

    Returns
    -------
    dict
        ``accuracy`` and ``accuracy_top5`` after the last epoch, ``accuracy_best`` of the
        tests [%], ``n_parameters``, ``curve``.

    Raises
    ------
    stillhouse.training.loop.Diverged
    """
    loss = make_loss(settings)
    set_batchnorm_updates(net, settings.get("batchnorm_updates", 1))
    loop.to_memory_format(net, settings)
    tested = tested_epochs(settings)
    n, side = labels.n_views, labels.images.shape[-1]
    bounds = loop.step_bounds(net, n, labels.settings["batch_size"], side)

    def evaluate(net, epoch):
        if epoch not in tested:
            return {}
        outputs = loop.logits(net, test[0], context.batch_size, prepare, settings)
        top1, top5 = loop.accuracies(outputs, test[1])
        return {"accuracy": top1, "accuracy_top5": top5}

    def steps(epoch):
        return batches(labels, loss, seed, epoch, bounds, prepare)

    curve = loop.fit(net, settings, steps, evaluate, context, "student", seed)
    return {
        "accuracy": curve[-1]["accuracy"],
        "accuracy_top5": curve[-1]["accuracy_top5"],
        "accuracy_best": max(row["accuracy"] for row in curve if "accuracy" in row),
        "n_parameters": sum(p.numel() for p in net.parameters()),
        "curve": curve,
    }
