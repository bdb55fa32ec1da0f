from itertools import pairwise

import pytest
import torch
from stillhouse.networks import registry, state_dicts
from stillhouse.networks.convnet import rded_names
from torch import nn


def build(arch="convnet1", n_classes=3, resolution=8, seed=0, stage="student", **settings):
    settings = {"arch": arch, "width": 4, "norm": "batch", **settings}
    return registry.build(settings, n_classes, resolution, seed, stage)


@pytest.mark.parametrize(
    ("arch", "settings", "n_classes", "resolution", "count"),
    [
        # 3·9·w + w, (w·9·w + w)·(d - 1), 2·w·d for the norm, then a linear layer.
        ("convnet3", {"width": 128}, 10, 32, 320_010),
        ("convnet3", {"width": 128, "norm": "instance"}, 10, 32, 320_010),
        ("convnet4", {"width": 128}, 200, 64, 857_160),
        ("convnet6", {"width": 128}, 100, 128, 794_340),
        ("convnet1", {"width": 4}, 3, 8, 315),
    ],
)
def test_parameters_are_counted_by_hand(arch, settings, n_classes, resolution, count):
    net = build(arch, n_classes, resolution, **settings)
    assert sum(p.numel() for p in net.parameters()) == count
    outputs = net.eval()(torch.zeros(2, 3, resolution, resolution))
    assert outputs.shape == (2, n_classes)


def test_a_convnet_is_its_blocks_in_order():
    kinds = [type(module).__name__ for module in build("convnet2").features]
    block = ["Conv2d", "BatchNorm2d", "ReLU", "AvgPool2d"]
    assert kinds == [*block, *block]
    norm = build("convnet2", norm="instance").features[1]
    x = torch.randn(2, 4, 5, 5)
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    assert torch.allclose(norm(x), (x - mean) / (var + norm.eps).sqrt(), atol=1e-5)


class OfficialConvNet(nn.Module):
    """A plain ConvNet whose modules are nested and named as those of RDED's checkpoints."""

    def __init__(self, depth, width, n_classes, side):
        super().__init__()
        sizes = [3, *[width] * depth]
        self.layers = nn.ModuleDict(
            {
                "conv": nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes)),
                "norm": nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth)),
            }
        )
        self.classifier = nn.Linear(width * (side >> depth) ** 2, n_classes)

    def forward(self, x):
        for conv, norm in zip(self.layers["conv"], self.layers["norm"], strict=True):
            x = nn.functional.avg_pool2d(norm(conv(x)).relu(), 2)
        return self.classifier(x.flatten(1))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_with_the_names_of_rded_give_the_same_outputs(tmp_path, prefix):
    torch.manual_seed(0)
    official = OfficialConvNet(3, 4, 5, 16)
    images = torch.randn(6, 3, 16, 16)
    official(images)  # running statistics other than the initial ones
    state = official.state_dict()
    assert "layers.conv.2.bias" in state and "layers.norm.0.running_mean" in state
    torch.save({f"{prefix}{name}": t for name, t in state.items()}, tmp_path / "x.pth")
    net = build("convnet3", 5, 16)
    state_dicts.load_foreign(net, tmp_path / "x.pth")
    torch.testing.assert_close(net.eval()(images), official.eval()(images))
    names = rded_names(net)
    assert sorted(names.values()) == sorted(state) and names.keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, state[names[name]])
