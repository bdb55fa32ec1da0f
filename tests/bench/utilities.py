"""Utilities against bare passes of their networks, and trajectory matching against its graph."""

import os
import subprocess
import sys

import torch
from stillhouse.artifacts.rng import generator
from stillhouse.methods.common.utilities.distribution_matching import CHUNK, DistributionMatching
from stillhouse.methods.common.utilities.real_images import RealImages
from stillhouse.methods.common.utilities.siamese import Siamese
from stillhouse.methods.common.utilities.trajectory_adjoint import trajectory_gradient
from stillhouse.methods.matching.method import OPERATIONS
from stillhouse.networks import registry
from stillhouse.training import loop
from timing import paired
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from tests.methods.common.utilities.whole_graph import whole_graph

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


# What is measured → network's width, side [px], IPC.
TM = {"digits, IPC 1": (64, 16, 1), "digits, IPC 10": (64, 16, 10)}


def tm_steps(width, side, ipc, n_steps=10):
    """Return the ratio of the adjoint to the whole graph of a student's steps."""
    case = training(width, side, ipc, n_steps)
    return paired(lambda: trajectory_gradient(*case), lambda: whole_graph(*case), 5)


def training(width, side, ipc, n_steps):
    """Return the arguments of `trajectory_gradient` for a student that trains on all images."""
    network = {"arch": "convnet3", "width": width, "norm": "instance"}
    net = registry.build(network, 10, side, 0, "bench")
    names = [name for name, _ in net.named_parameters()]
    start = [weight.detach().clone() for weight in net.parameters()]
    target = [weight + 0.01 for weight in start]
    images, labels = images_of(10 * ipc, side), torch.arange(10).repeat_interleave(ipc)

    def step_loss(t, weights, inputs):
        outputs = functional_call(net, dict(zip(names, weights, strict=True)), (inputs,))
        return cross_entropy(outputs, labels)

    rows = [torch.arange(len(images))] * n_steps
    return step_loss, rows, images, start, target, 0.01


def peak_memory(method, n_steps):
    """Return the bytes that a gradient on digits, IPC 10, adds at most to what its process holds.

    By Linux's high-water mark of the address space, which is set back before.

    Parameters
    ----------
    method : str
        ``trajectory_gradient`` or ``whole_graph``.
    n_steps : int
    """
    code = (
        "import sys, torch, utilities; torch.set_num_threads(1);"
        "state = lambda: dict(x.split(':') for x in open('/proc/self/status'));"
        "kilobytes = lambda name: int(state()[name].split()[0]);"
        "utilities.trajectory_gradient(*utilities.training(64, 16, 1, 1));"
        "case = utilities.training(64, 16, 10, int(sys.argv[2]));"
        "open('/proc/self/clear_refs', 'w').write('5'); before = kilobytes('VmRSS');"
        "getattr(utilities, sys.argv[1])(*case); print(1024 * (kilobytes('VmHWM') - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, method, str(n_steps)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)
