"""Real images of three classes, and utilities on a small network."""

import numpy as np
import pytest
import torch
from stillhouse.artifacts.rng import generator
from stillhouse.methods.common.utilities.networks import random_network
from stillhouse.methods.common.utilities.real_images import RealImages
from stillhouse.methods.common.utilities.siamese import Siamese
from torch.utils.flop_counter import FlopCounterMode

CLASSES = ["a", "b", "c"]
COUNTS, SIDE = (9, 6, 7), 8
ALL = ["color", "crop", "cutout", "flip", "scale", "rotate"]
NETWORK = {"arch": "convnet1", "width": 4, "norm": "instance"}
DEEP = {"arch": "convnet3", "width": 16, "norm": "instance"}
SETTINGS = {"network": NETWORK, "classes": CLASSES, "resolution": SIDE, "real_images": 5}


@pytest.fixture(scope="session")
def real():
    """Return `RealImages` of three classes, 8 px."""
    pixels = generator(0, "test").integers(0, 256, (sum(COUNTS), 3, SIDE, SIDE), np.uint8)
    labels = torch.tensor([label for label, count in enumerate(COUNTS) for _ in range(count)])
    return RealImages(torch.from_numpy(pixels), labels, CLASSES, 0)


@pytest.fixture
def siamese():
    """Return a function from operations to their `Siamese`."""
    return lambda operations=tuple(ALL): Siamese(list(operations), CLASSES, SIDE, 0)


@pytest.fixture
def images():
    """Return six images in [0, 1] and their labels, not in order."""
    pixels = generator(1, "test").random((6, 3, SIDE, SIDE), np.float32)
    return torch.from_numpy(pixels), torch.tensor([2, 0, 1, 2, 0, 0])


@pytest.fixture
def passes(images):
    """Return a function that counts the forward passes over an image that cost as much as updates.

    Of a `DEEP` network; the mean of some iterations.
    """

    def passes(utility, iterations):
        def counted(call):
            with FlopCounterMode(display=False) as counter:
                call()
            return counter.get_total_flops()

        net = random_network(utility.settings, 0, 0, torch.device("cpu"))
        one = counted(lambda: net(torch.zeros(1, 3, SIDE, SIDE)))
        total = counted(lambda: [utility(*images, i) for i in range(iterations)])
        return total / iterations / one

    return passes


@pytest.fixture(autouse=True)
def global_generator_untouched():
    """Fail a test that draws from torch's global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)
