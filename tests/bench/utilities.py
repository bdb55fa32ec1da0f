"""Utilities against bare passes of their networks, and trajectory matching against its graph."""

import torch
from stillhouse.methods.common.utilities.distribution_matching import CHUNK, DistributionMatching
from stillhouse.methods.common.utilities.real_images import RealImages
from stillhouse.methods.common.utilities.siamese import Siamese
from stillhouse.methods.matching.method import OPERATIONS
from stillhouse.networks import registry
from stillhouse.rng import generator
from stillhouse.training import loop
from timing import paired

CLASSES = [str(i) for i in range(10)]
# What is measured → network's width, side [px], IPC, real images per class.
DM = {
    "digits, IPC 1": (64, 16, 1, 32),
    "digits, IPC 10": (64, 16, 10, 32),
    "CIFAR-10, IPC 10": (128, 32, 10, 64),
}


def images_of(count, side):
    """Return random images, (count, 3, side, side) float32 in [0, 1)."""
    return torch.from_numpy(generator(0, "bench").random((count, 3, side, side), "float32"))


def dm_step(width, side, ipc, count):
    """Return the ratio of a step of DM to bare passes on as many images of the same network."""
    network = {"arch": "convnet3", "width": width, "norm": "instance"}
    settings = {"network": network, "classes": CLASSES, "resolution": side, "real_images": count}
    pixels, real_labels = images_of(1000, side), torch.arange(10).repeat_interleave(100)
    real = RealImages((pixels * 255).byte(), real_labels, CLASSES, 0)
    utility = DistributionMatching(settings, real, Siamese(OPERATIONS, CLASSES, side, 0))
    images, labels = images_of(10 * ipc, side), torch.arange(10).repeat_interleave(ipc)
    net = loop.freeze(registry.build(network, 10, side, 0, "bench")).features
    iterations = iter(range(10**6))

    def ours():
        for _ in range(3):
            utility(images, labels, next(iterations))

    def bare():
        for _ in range(3):
            with torch.no_grad():
                for part in pixels[: 10 * count].split(CHUNK):
                    net(part)
            for part in images.split(CHUNK):
                inputs = part.clone().requires_grad_(True)
                torch.autograd.grad((net(inputs).flatten(1) ** 2).sum(), inputs)

    return paired(ours, bare, 5)
