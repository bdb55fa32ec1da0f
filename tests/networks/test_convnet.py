import pytest
import torch
from stillhouse.networks import registry


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
