"""Sizes that cost formulas share: multiply-adds against torch's count, images of sources."""

import pytest
import torch
from stillhouse.networks import registry
from stillhouse.planning.sizes import Sizes, forward
from torch.utils.flop_counter import FlopCounterMode

from tests.planning.configs import build


def counted(arch, width, resolution):
    """Return the multiply-adds of a forward pass, counted by torch."""
    settings = {"arch": arch, "width": width, "norm": "batch", "dropout": 0.0}
    with torch.device("meta"):
        # Building may apply the network, which must not be counted.
        network = registry.build(settings, 10, resolution, 0, "hours").eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, resolution, resolution))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("arch", "width", "resolution"),
    [
        *(("convnet1", 16, 8), ("convnet3", 64, 16), ("convnet3", 128, 32), ("convnet4", 128, 64)),
        *(("resnet18_modified", 128, 32), ("resnet18_instance", 128, 224)),
        *(("resnetap10", 128, 32), ("resnetap10", 128, 128), ("resnetap10", 128, 256)),
        *(("wrn16_2", 128, 32), ("mobilenetv2_small", 128, 32), ("shufflenetv2_small", 128, 32)),
        *(("vgg11_small", 128, 32), ("alexnet_small", 128, 32), ("vit_patch16_512x10", 128, 64)),
        *(("torchvision/resnet18", 128, 224), ("torchvision/mobilenet_v2", 128, 224)),
    ],
)
def test_multiply_adds_are_those_that_torch_counts(arch, width, resolution):
    assert forward(arch, width, resolution) == pytest.approx(
        counted(arch, width, resolution), rel=0.1
    )


def test_images_of_a_class_are_those_of_the_source(tiny):
    def counts():
        plan = build(tiny)
        artifact = next(iter(plan.artifacts["index"].values()))
        sizes = Sizes(plan.config)
        return sizes.per_class(artifact), sizes.tests_per_class(artifact)

    n_train, n_test = counts()
    assert n_train == 116  # of the smallest digit
    tiny["sources"]["digits"]["holdout"] = 0.25
    assert counts() == (0.75 * n_train, 0.25 * n_train)
    assert n_test == pytest.approx(40, rel=0.3)
