import pytest
import torch
from stillhouse.errors import StillhouseError
from stillhouse.networks import registry
from stillhouse.networks.features import classifier, penultimate
from torch import nn


def build(arch, n_classes=10, resolution=32, seed=0, **settings):
    return registry.build({"arch": arch, **settings}, n_classes, resolution, seed, "student")


FEATURES = {
    "torchvision/squeezenet1_1": (64, lambda net, x: net.features(x).mean((2, 3))),
    "torchvision/mobilenet_v3_small": (
        32,
        lambda net, x: net.classifier[:3](net.features(x).mean((2, 3))),
    ),
    "timm/resnetv2_18": (32, lambda net, x: net.forward_features(x).mean((2, 3))),
    "timm/test_convnext": (32, lambda net, x: net.forward_head(net.forward_features(x), True)),
    "timm/deit_tiny_distilled_patch16_224": (32, lambda net, x: net.forward_features(x)[:, 0]),
}


@pytest.mark.parametrize(("arch", "resolution", "by_hand"), [(k, *v) for k, v in FEATURES.items()])
def test_features_are_the_input_of_the_classifier(arch, resolution, by_hand):
    net = build(arch, 3, resolution).eval()
    pixels = torch.rand(2, 3, resolution, resolution)
    actual = penultimate(net, pixels)
    wanted = by_hand(net, pixels)
    assert actual.shape == (2, wanted.shape[1])
    assert actual.dtype == torch.float32
    assert torch.allclose(actual, wanted, atol=1e-4 * wanted.abs().max().item())
    assert wanted.std() > 0


def test_features_are_averaged_over_positions():
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten(2), Transpose(), nn.Linear(5, 2), Mean())
    pixels = torch.rand(2, 3, 4, 4)
    actual = penultimate(net, pixels)
    assert torch.allclose(actual, net[0](pixels).mean((2, 3)), atol=1e-6)


class Transpose(nn.Module):
    def forward(self, x):
        return x.mT


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def test_a_network_without_a_classifier_is_an_error():
    with pytest.raises(StillhouseError, match=r"^Sequential: missing linear or con") as caught:
        classifier(nn.Sequential(nn.Flatten(), nn.ReLU()))
    assert "\n" not in str(caught.value)
