"""Teachers: classifiers trained on a dataset, or loaded, that score patches and make labels."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from stillhouse.artifacts import store
from stillhouse.data.boxes import N_DRAWS, random_boxes
from stillhouse.data.class_images import load_split
from stillhouse.data.transforms import cut, normalise
from stillhouse.errors import StillhouseError
from stillhouse.networks import libraries, registry, state_dicts
from stillhouse.rng import generator
from stillhouse.training import loop
from stillhouse.training.teacher_accuracy import check_accuracy


def teacher(inputs, spec, context):
    """Stage: train a teacher by its recipe, or load its weights from a file or library; test it."""
    settings, device = spec["settings"], context.torch_device()
    classes, resolution, roots = settings["classes"], settings["resolution"], context.source_roots

    def make(key, context):
        net = registry.build(settings, len(classes), resolution, settings.get("seed", 0), "teacher")
        curve = []
        if "weights" in settings:
            _load(net, inputs["weights"][0], settings["weights"])
            net.to(device)
        elif "pretrained" in settings:
            where = f"{settings['pretrained']} of {settings['arch']}"
            state_dicts.load(net, libraries.pretrained(settings, classes, resolution), where)
            net.to(device)
        else:
            net.to(device, memory_format=loop.memory_format(settings))
            images, labels = load_split(inputs["images"], classes, resolution, "train", roots)
            curve = train(net, images.to(device), labels.to(device), settings, context)
        images, labels = load_split(inputs["images"], classes, resolution, "test", roots)
        outputs = loop.logits(net, images.to(device), context.batch_size, normalise)
        top1, top5 = loop.accuracies(outputs, labels.to(device))
        lowest = float(context.extra["min_accuracy"])
        check_accuracy(top1, spec["address"], len(classes), lowest)
        metrics = {
            "accuracy": top1,
            "accuracy_top5": top5,
            "n_test": len(labels),
            "n_parameters": sum(p.numel() for p in net.parameters()),
            "curve": curve,
        }
        return {"metrics.json": metrics, "model.safetensors": net.state_dict()}

    return make


def train(net, images, labels, settings, context):
    """Train a teacher on random resized crops and return its learning curve.

    Parameters
    ----------
    net : torch.nn.Module
    images : (n, 3, size, size) uint8 tensor
    labels : (n,) int64 tensor
    settings : dict
        The recipe; see the config's `teachers`.
    context : stillhouse.artifacts.jobs.Context
    """
    n, size = images.shape[0], images.shape[-1]
    n_steps = -(-n // settings["batch_size"])
    smoothing = settings["label_smoothing"]

    def batches(epoch):
        draws = generator(settings["seed"], "teacher epoch", item=epoch).random((n, N_DRAWS + 2))
        order = torch.from_numpy(np.argsort(draws[:, 0], kind="stable")).to(labels.device)
        flips = torch.from_numpy(draws[:, 1] < settings["flip"]).to(labels.device)
        boxes = random_boxes(draws[:, 2:], size, size, settings["crop"])
        boxes = torch.from_numpy(boxes).to(labels.device)
        return n_steps, (one(rows, boxes, flips) for rows in order.split(settings["batch_size"]))

    def one(rows, boxes, flips):
        inputs = normalise(cut(images[rows], boxes[rows], size, flips[rows]))
        wanted = labels[rows]
        return inputs, lambda outputs: cross_entropy(outputs, wanted, label_smoothing=smoothing)

    nothing = lambda net, epoch: {}  # noqa: E731
    return loop.fit(
        net, settings, batches, nothing, context, "teacher", settings["seed"], nesterov=True
    )


def _load(net, path, sha256):
    found = store.checksum(path)
    if found != sha256:
        raise StillhouseError(
            f"{path}: has SHA-256 {found}, the config says {sha256}; if the file is right, "
            "write its checksum under the teacher's weights"
        )
    state_dicts.load_foreign(net, path)


def load_teacher(path, device):
    """Return (network, class ids in the order of its outputs, resolution) of a teacher artifact.

    Parameters
    ----------
    path : Path
        Its ``model.safetensors``.
    device : torch.device
    """
    settings = store.read_spec(path.parent)["settings"]
    net = registry.build(settings, len(settings["classes"]), settings["resolution"], 0, "teacher")
    net.load_state_dict(store.read_tensors(path))
    return loop.freeze(net.to(device)), settings["classes"], settings["resolution"]
