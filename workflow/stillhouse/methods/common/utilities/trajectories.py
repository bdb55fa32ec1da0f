"""Expert trajectories: the weights of networks after every epoch of training on real images.

Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022; official
code GeorgeCazenavette/mtt-distillation at 50dccea, buffer.py: gradient descent without momentum or
weight decay.
"""

from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.splits import load_split
from stillhouse.data.whitening import preparation
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.utilities.networks import random_network
from stillhouse.methods.common.utilities.siamese import Siamese, augment


def trajectories(inputs, spec, context):
    """Stage: train experts on the training images and store their weights after every epoch.

    ``snapshots.safetensors`` has the initial weights as ``0.<name>`` and those after epoch e as
    ``<e>.<name>``; ``curve.json`` the mean training loss of each epoch, ``loss``.
    """
    return Experts(inputs, spec, context)


class Experts:
    """The training images of a dataset, loaded once for all experts of a job."""

    def __init__(self, inputs, spec, context):
        settings = self.settings = spec["settings"]
        self.address = str(Path(spec["address"]).parent)
        classes, resolution = settings["classes"], settings["resolution"]
        device = context.torch_device()
        pixels, labels = load_split(
            inputs["images"], classes, resolution, "train", context.source_roots
        )
        self.pixels, self.labels = pixels.to(device), labels.to(device)
        self.prepare = preparation(inputs, device)
        self.siamese = Siamese(settings["siamese"], classes, resolution, settings["seed"])

    def __call__(self, number, context):
        """Return the files of one expert."""
        settings, checkpoint = self.settings, Checkpoint(context)
        net = random_network(settings, settings["seed"], f"expert {number}", self.pixels.device)
        net.requires_grad_(True)
        snapshots, losses = _named(net, 0), []
        stored = checkpoint.resume(f"expert {number}", "epoch")
        if stored is not None:
            snapshots, losses = stored[0], stored[1]["losses"]
            net.load_state_dict(select_prefix(snapshots, f"{len(losses)}."))
        epochs = range(len(losses), settings["epochs"])
        for epoch in track(epochs, len(epochs), f"expert {number} epoch"):
            losses.append(self._epoch(net, number, epoch))
            snapshots |= _named(net, epoch + 1)
            if checkpoint.due(last=epoch + 1 == settings["epochs"]):
                checkpoint.save(snapshots, {"done": len(losses), "losses": losses})
        return {"curve.json": {"loss": losses}, "snapshots.safetensors": snapshots}

    def _epoch(self, net, number, epoch):
        """Train for one epoch; return the mean loss per image."""
        settings, item, total = self.settings, f"{number}, {epoch}", 0.0
        rng = generator(settings["seed"], "expert order", item=item)
        order = torch.from_numpy(permutation(rng, len(self.pixels))).to(self.pixels.device)
        parts, weights = order.split(settings["batch_size"]), list(net.parameters())
        drawn = self.siamese.of_steps([len(part) for part in parts], "expert siamese", item)
        for rows, operations in zip(parts, drawn, strict=True):
            images = augment(self.prepare(self.pixels[rows]), operations)
            loss = cross_entropy(net(images), self.labels[rows])
            slopes = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                torch._foreach_add_(weights, slopes, alpha=-settings["learning_rate"])
            total += loss.item() * len(rows)
        if not total < float("inf"):
            raise StillhouseError(
                f"{self.address}: experts.learning_rate: the loss of expert {number} is not finite "
                f"in epoch {epoch + 1}; lower it"
            )
        return total / len(self.pixels)


def _named(net, epoch):
    """Return copies of the weights of a network, named by the epoch."""
    return {f"{epoch}.{name}": w.detach().cpu().clone() for name, w in net.named_parameters()}


class Snapshots:
    """Weights of experts after some epochs, read when they are needed.

    Parameters
    ----------
    files : dict of int to Path
        ``snapshots.safetensors`` by the number of the expert.
    names : list of str
        Of the weights, in the order of the network's parameters.
    device : torch.device
    """

    def __init__(self, files, names, device):
        self.files, self.names, self.device = files, names, device

    def read(self, expert, epoch):
        """Return the weights of an expert after an epoch, a list; epoch 0 is its initialisation."""
        from safetensors import safe_open

        store.check([self.files[expert]])
        with safe_open(self.files[expert], "pt", device=str(self.device)) as stored:
            return [stored.get_tensor(f"{epoch}.{name}") for name in self.names]
