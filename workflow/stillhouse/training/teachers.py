"""Teachers: classifiers, trained on a dataset or loaded, for scores, features and labels."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from stillhouse.artifacts import foreign_files, formats, store
from stillhouse.artifacts.finite import NotFinite
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import N_DRAWS, augmentation_boxes
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import cut, normalise
from stillhouse.errors import StillhouseError
from stillhouse.networks import libraries, registry, state_dicts
from stillhouse.training import distributed, loop
from stillhouse.training.teacher_accuracy import check_accuracy, weights_origin


def teacher(inputs, spec, context):
    """Stage: train a teacher by its recipe, or load weights from a file or library; test it."""
    return TeacherStage(inputs, spec, context)


class TeacherStage:
    """Train or load the network of a teacher and measure its accuracy on the test split."""

    def __init__(self, inputs, spec, context):
        self.inputs, self.settings, self.address = inputs, spec["settings"], spec["address"]
        self.device = context.torch_device()

    def __call__(self, member, context):
        """Return the files of the teacher."""
        settings, n_classes = self.settings, len(self.settings["classes"])
        seed = settings.get("seed", 0)
        net = registry.build(settings, n_classes, settings["resolution"], seed, "teacher")
        curve = self._obtain(net, context)
        images, labels = self._split("test", context)
        outputs = loop.logits(net, images, context.batch_size, normalise)
        try:
            top1, top5 = loop.accuracies(outputs, labels)
        except NotFinite as error:
            raise StillhouseError(
                f"teacher {Path(self.address).name}: {error} on the test split; use other weights, "
                "or, if it was trained here, lower its learning_rate"
            ) from None
        check_accuracy(top1, self.address, settings, float(context.extra["min_accuracy"]))
        metrics = {
            "accuracy": top1,
            "accuracy_top5": top5,
            "n_test": len(labels),
            "n_parameters": sum(p.numel() for p in net.parameters()),
            "curve": curve,
        }
        return {"metrics.json": metrics, "model.safetensors": net.state_dict()}

    def _obtain(self, net, context):
        """Train the network or load its weights; return its learning curve, empty if loaded."""
        settings, origin = self.settings, weights_origin(self.settings)
        if origin == "file":
            _load_file(net, self.inputs["weights"][0], settings["weights"])
        elif origin == "library":
            where = f"{settings['pretrained']} of {settings['arch']}"
            tensors = libraries.pretrained(settings, settings["classes"], settings["resolution"])
            state_dicts.load(net, tensors, where)
        else:
            loop.to_memory_format(net.to(self.device), settings)
            return train(net, *self._split("train", context), settings, context)
        net.to(self.device)
        return []

    def _split(self, split, context):
        """Return images and labels of a split, on the device."""
        images, labels = load_split(
            self.inputs["images"],
            self.settings["classes"],
            self.settings["resolution"],
            split,
            context.source_roots,
        )
        return images.to(self.device), labels.to(self.device)


def train(net, images, labels, settings, context):
    """Train a teacher on random crops and return its learning curve.

    Parameters
    ----------
    net : torch.nn.Module
    images : (n, 3, size, size) uint8 tensor, or `stillhouse.data.splits.StoredImages`
    labels : (n,) int64 tensor
    settings : dict
        The recipe; see the config's `teachers`.
    context : stillhouse.artifacts.context.Context
    """
    n, size = images.shape[0], images.shape[-1]
    bounds = loop.step_bounds(net, n, settings["batch_size"], size)
    smoothing, group = settings["label_smoothing"], distributed.group()

    def batches(epoch):
        draws = generator(settings["seed"], "teacher epoch", item=epoch).random((n, N_DRAWS + 2))
        order = torch.from_numpy(np.argsort(draws[:, 0], kind="stable")).to(labels.device)
        flips = torch.from_numpy(draws[:, 1] < settings["flip"]).to(labels.device)
        boxes = torch.from_numpy(augmentation_boxes(draws[:, 2:], size, settings))
        boxes = boxes.to(labels.device)
        steps = (batch(order[first:end], boxes, flips) for first, end in bounds)
        return len(bounds), steps

    def batch(rows, boxes, flips):
        rows = rows[group.rows(len(rows))]
        inputs = normalise(cut(images[rows], boxes[rows], size, flips[rows]))
        targets = labels[rows]
        return inputs, lambda outputs: cross_entropy(outputs, targets, label_smoothing=smoothing)

    nesterov, seed = settings.get("nesterov", True), settings["seed"]
    return loop.fit(
        net, settings, batches, _no_evaluation, context, "teacher", seed, nesterov=nesterov
    )


def _no_evaluation(net, epoch):
    return {}


def _load_file(net, path, sha256):
    foreign_files.check("weights.file", path)
    actual = formats.checksum(path)
    if actual != sha256:
        raise StillhouseError(
            f"{path}: SHA-256 must be {sha256}, as in the config, not {actual}; restore the file, "
            "or, if it is correct, set its checksum as sha256 of the teacher's weights"
        )
    state_dicts.load_foreign(net, path)


@dataclass(frozen=True)
class Teacher:
    """A frozen classifier and the classes of its outputs.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode, without gradients of its parameters; takes normalised images.
    class_ids : list of str
        In the order of the outputs.
    resolution : int
        Side of the input [px].
    """

    net: torch.nn.Module
    class_ids: list
    resolution: int
    _columns: dict = field(default_factory=dict, repr=False, compare=False)

    def columns(self, classes):
        """Return the positions of classes among the outputs, (classes,) int64 on the CPU."""
        positions = {class_id: i for i, class_id in enumerate(self.class_ids)}
        return torch.tensor([positions[class_id] for class_id in classes])

    def logits(self, images, classes):
        """Return the outputs of the named classes, (n, classes) float32.

        Parameters
        ----------
        images : (n, 3, side, side) float32
            Normalised; on the network's device.
        classes : list of str
            Class ids in the order of the result.
        """
        outputs, key = self.net(images).float(), tuple(classes)
        if key not in self._columns:
            self._columns[key] = self.columns(classes).to(outputs.device)
        return outputs[:, self._columns[key]]


def load_teacher(path, device):
    """Return the `Teacher` of a teacher artifact.

    Parameters
    ----------
    path : Path
        Its ``model.safetensors``.
    device : torch.device
    """
    settings = store.read_spec(path.parent)["settings"]
    classes, resolution = settings["classes"], settings["resolution"]
    net = registry.build(settings, len(classes), resolution, 0, "teacher")
    net.load_state_dict(store.read_tensors(path))
    return Teacher(loop.freeze(net.to(device)), classes, resolution)
