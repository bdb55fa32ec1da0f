"""Utilities whose networks have whitened inputs."""

import copy

import pytest
import torch
from stillhouse.data.whitening import Whitening, fit
from stillhouse.methods.common.utilities.distribution_matching import DistributionMatching
from stillhouse.methods.common.utilities.gradient_matching import GradientMatching
from stillhouse.methods.common.utilities.networks import random_network
from stillhouse.methods.common.utilities.siamese import augment_classes

from tests.methods.common.utilities.conftest import SETTINGS

LOOPS = {"outer_steps": 2, "inner_epochs": 1, "inner_batch_size": 4, "network_rate": 0.01}


class Recording(Whitening):
    """A whitening that records the pixels it is called with."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.calls = []

    def __call__(self, pixels):
        self.calls.append(pixels.detach().float())
        return super().__call__(pixels)


@pytest.fixture
def whitened(real):
    """Return the real images, prepared by a recording whitening."""
    one = copy.copy(real)
    one.prepare = Recording(*fit(real.pixels, 0.1))
    return one


def test_images_are_augmented_after_they_are_whitened(whitened, siamese, images):
    utility = DistributionMatching(SETTINGS, whitened, siamese(["cutout", "scale"]))
    loss, gradient = utility(*images, 3)
    pixels, labels = images[0].clone().requires_grad_(True), images[1]
    net, total = random_network(SETTINGS, 0, 3, pixels.device), 0.0
    for label in range(3):
        drawn = utility.siamese.of_classes([label], 3)
        rows = torch.from_numpy(whitened.rows(label, SETTINGS["real_images"], 3))
        means = []
        for part in (whitened.pixels[rows] / 255, pixels[labels == label]):
            flat = (part.flatten(1) - whitened.prepare.mean) @ whitened.prepare.matrix
            viewed = augment_classes(flat.view(part.shape), {label: len(part)}, drawn)
            means.append(net.features(viewed).flatten(1).mean(0))
        total = total + ((means[0] - means[1]) ** 2).sum()
    assert loss == pytest.approx(total.item(), rel=1e-4)
    wanted = torch.autograd.grad(total, pixels)[0]
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


def test_gradient_matching_whitens_all_images(whitened, siamese, images):
    utility = GradientMatching({**SETTINGS, **LOOPS}, whitened, siamese(["crop"]))
    calls = whitened.prepare.calls
    utility(*images, 0)
    # Per class real images, then its distilled ones.
    real, own = calls[::2], calls[1::2]
    assert [len(part) for part in real] == [5, 5, 5]
    labels = images[1]
    for label, part in enumerate(own):
        torch.testing.assert_close(part, 255 * images[0][labels == label])
    calls.clear()
    utility(*images, 1)
    # The training of the network, too.
    torch.testing.assert_close(calls[0], 255 * images[0])
    assert len(calls) == 7
