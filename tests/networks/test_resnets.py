import math

import pytest
import torch
from stillhouse.networks import registry
from torch import nn


def build(arch, n_classes=10, resolution=32, seed=0, **settings):
    return registry.build({"arch": arch, **settings}, n_classes, resolution, seed, "student")


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


INSTANCE = {"norm": "instance"}
DROPOUT = {"dropout": 0.01}


def convolutions(*shapes):
    """Return the weights of convolutions (from, to, kernel; bias and norm per channel)."""
    return sum(a * b * k * k + b * extra for a, b, k, extra in shapes)


def resnetap10(kernel, n_classes):
    stem = convolutions((3, 64, kernel, 2), (64, 64, 3, 2), (64, 64, 3, 2))
    stages = [
        convolutions((w // 2, w, 3, 2), (w, w, 3, 2), (w // 2, w, 1, 2)) for w in (128, 256, 512)
    ]
    return stem + sum(stages) + 513 * n_classes


@pytest.mark.parametrize(
    ("arch", "settings", "n_classes", "resolution", "count"),
    [
        ("resnetap10", INSTANCE, 10, 224, resnetap10(7, 10)),
        ("resnetap10", INSTANCE, 10, 128, resnetap10(3, 10)),
        ("resnetap10", {"norm": "batch"}, 100, 64, resnetap10(3, 100)),
        # torchvision's 11,181,642 with 10 classes, less the 7 × 7 stem, with a 3 × 3 one.
        ("resnet18_modified", {}, 10, 32, 11_173_962),
        ("resnet18_modified", {}, 100, 32, 11_220_132),
        # torchvision's ResNet-18: instance norm has as many scales and shifts as batch norm.
        ("resnet18_instance", {}, 10, 128, 11_181_642),
        # torchvision's 44,549,160 with 1000 classes, other stem and head.
        ("resnet101_modified", {}, 10, 32, 44_549_160 - 9408 + 1728 - 2049 * 990),
    ],
)
def test_parameters_are_counted_by_hand(arch, settings, n_classes, resolution, count):
    net = build(arch, n_classes, resolution, **settings)
    assert n_parameters(net) == count
    with torch.no_grad():
        outputs = net.eval()(torch.randn(2, 3, resolution, resolution))
    assert outputs.shape == (2, n_classes)
    # The outputs differ: no layer sets all activations to zero.
    assert not torch.allclose(outputs[0], outputs[1])


OURS = [
    ("resnetap10", INSTANCE),
    ("resnet18_instance", {}),
]


@pytest.mark.parametrize(("arch", "settings"), OURS)
def test_weights_depend_on_the_seed_alone(arch, settings):
    first = build(arch, 3, 48, **settings).state_dict()
    torch.manual_seed(123)
    again = build(arch, 3, 48, **settings).state_dict()
    other = build(arch, 3, 48, seed=1, **settings).state_dict()
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert any(not torch.equal(other[name], first[name]) for name in first)


@pytest.mark.parametrize(
    ("resolution", "kernel", "side"), [(64, 3, 64), (128, 3, 64), (132, 7, 33)]
)
def test_the_stem_of_resnetap_depends_on_the_resolution(resolution, kernel, side):
    stem = build("resnetap10", resolution=resolution, **INSTANCE).layer0
    assert stem.conv1.kernel_size == (kernel, kernel)
    assert stem(torch.zeros(1, 3, resolution, resolution)).shape == (1, 64, side, side)
    assert not any(m.stride != (1, 1) for m in stem.modules() if isinstance(m, nn.Conv2d))


def test_resnetap_pools_instead_of_strides():
    net = build("resnetap10", **INSTANCE)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 12
    assert all(m.stride == (1, 1) and m.bias is None for m in convolutions)
    wide = net.layer4[0].conv2.weight
    assert abs(wide.std().item() - math.sqrt(2 / (9 * 512))) < 1e-3


def test_a_block_of_resnetap_is_its_formula():
    block = build("resnetap10", **INSTANCE).layer2[0].double()
    x = torch.randn(2, 64, 6, 6, dtype=torch.float64)

    def instance(x):
        mean = x.mean((2, 3), keepdim=True)
        return (x - mean) / (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()

    def halved(x):
        return x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))

    convolve = nn.functional.conv2d
    inner = halved(instance(convolve(x, block.conv1.weight, padding=1)).relu())
    inner = instance(convolve(inner, block.conv2.weight, padding=1))
    short = instance(halved(convolve(x, block.downsample[0].weight)))
    assert torch.allclose(block(x), (inner + short).relu())


def test_the_stem_of_the_modified_resnet_keeps_the_size():
    net = build("resnet18_modified")
    x = torch.zeros(1, 3, 8, 8)
    assert net.maxpool(net.conv1(x)).shape == (1, 64, 8, 8)
    assert net.conv1.bias is None


def test_the_stem_of_the_modified_resnet_has_the_chosen_initial_weights():
    # torch's default: uniform between ±1 / sqrt(3 · 9), so of standard deviation 1 / 9.
    stem = build("resnet18_modified").conv1.weight
    assert torch.equal(stem, build("resnet18_modified", stem_init="torch").conv1.weight)
    assert stem.abs().max().item() <= 27**-0.5
    assert stem.std().item() == pytest.approx(1 / 9, rel=0.04)
    # He initialisation over the outputs, as torchvision's other convolutions.
    stem = build("resnet18_modified", stem_init="he").conv1.weight
    assert stem.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.06)
    assert stem.abs().max().item() > 0.15


def test_instance_norm_replaces_every_batch_norm():
    net = build("resnet18_instance", resolution=64)
    groups = [m for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert len(groups) == 20
    assert all(m.num_groups == m.num_channels for m in groups)


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_parameter_names_are_torchvisions(name):
    from torchvision import models

    wanted = models.get_model(name, num_classes=10).state_dict()
    actual = build(f"{name}_modified").state_dict()
    assert actual.keys() == wanted.keys()
    changed = [name for name in actual if actual[name].shape != wanted[name].shape]
    assert changed == ["conv1.weight"]


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("resnetap10", {"layer0.conv1.weight", "layer2.0.downsample.2.bias", "fc.bias"}),
    ],
)
def test_parameter_names_are_those_of_public_checkpoints(arch, names):
    assert names <= build(arch, **INSTANCE).state_dict().keys()
