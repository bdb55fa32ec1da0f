import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from stillhouse.config import protocols
from stillhouse.networks import registry
from torch import nn


def build(arch, n_classes=10, resolution=32, seed=0, **settings):
    return registry.build({"arch": arch, **settings}, n_classes, resolution, seed, "student")


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


INSTANCE = {"norm": "instance"}
DROPOUT = {"dropout": 0.01}


def convolutions(*shapes):
    """Return the weights of convolutions (from, to, kernel, bias and norm a channel)."""
    return sum(a * b * k * k + b * extra for a, b, k, extra in shapes)


def resnetap10(kernel, n_classes):
    stem = convolutions((3, 64, kernel, 2), (64, 64, 3, 2), (64, 64, 3, 2))
    stages = [
        convolutions((w // 2, w, 3, 2), (w, w, 3, 2), (w // 2, w, 1, 2)) for w in (128, 256, 512)
    ]
    return stem + sum(stages) + 513 * n_classes


def vgg11_small(n_classes):
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    pairs = itertools.pairwise(widths)
    return convolutions(*((a, b, 3, 3) for a, b in pairs)) + (512 * 49 + 1) * n_classes


def alexnet_small(n_classes, resolution):
    layers = (
        (3, 128, 5, 1),
        (128, 192, 5, 1),
        (192, 256, 3, 1),
        (256, 192, 3, 1),
        (192, 192, 3, 1),
    )
    return convolutions(*layers) + (192 * (resolution // 8) ** 2 + 1) * n_classes


def vit_512x10(n_classes, resolution):
    tokens = (resolution // 16) ** 2 + 1
    block = 512 * 1536 + 513 * 512 + 2 * 513 * 512
    return (768 + 1) * 512 + (tokens + 1) * 512 + 10 * block + 513 * n_classes


@pytest.mark.parametrize(
    ("arch", "settings", "n_classes", "resolution", "count"),
    [
        ("resnetap10", INSTANCE, 10, 224, resnetap10(7, 10)),
        ("resnetap10", INSTANCE, 10, 128, resnetap10(3, 10)),
        ("resnetap10", {"norm": "batch"}, 100, 64, resnetap10(3, 100)),
        ("alexnet_small", {}, 10, 128, alexnet_small(10, 128)),
        ("alexnet_small", {}, 10, 32, alexnet_small(10, 32)),
        ("vgg11_small", INSTANCE, 10, 128, vgg11_small(10)),
        ("vgg11_small", {"norm": "batch"}, 10, 32, vgg11_small(10)),
        ("vit_patch16_512x10", DROPOUT, 10, 128, vit_512x10(10, 128)),
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
    # Two images, two answers: nothing on the way has set all to zero.
    assert not torch.allclose(outputs[0], outputs[1])


OURS = [
    ("convnet2", {"width": 4, "norm": "batch"}),
    ("resnetap10", INSTANCE),
    ("alexnet_small", {}),
    ("vgg11_small", INSTANCE),
    ("vit_patch16_512x10", DROPOUT),
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


@pytest.mark.parametrize("arch", sorted(registry.ARCHITECTURES))
def test_the_switches_know_which_networks_keep_running_statistics(arch):
    for norm in ("batch", "instance"):
        settings = {"norm": norm} if arch in ("resnetap10", "vgg11_small", "convnet3") else {}
        net = build(arch, 3, 64, **{"width": 4, "dropout": 0.1, "norm": "batch", **settings})
        keeps = any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        assert protocols.has_batchnorm({"arch": arch, **settings}) is keeps


@pytest.mark.parametrize(
    ("resolution", "kernel", "side"), [(64, 3, 64), (128, 3, 64), (132, 7, 33)]
)
def test_the_stem_of_resnetap_follows_the_image(resolution, kernel, side):
    stem = build("resnetap10", resolution=resolution, **INSTANCE).layer0
    assert stem.conv1.kernel_size == (kernel, kernel)
    assert stem(torch.zeros(1, 3, resolution, resolution)).shape == (1, 64, side, side)
    assert not any(m.stride != (1, 1) for m in stem.modules() if isinstance(m, nn.Conv2d))


def test_resnetap_pools_and_never_strides():
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


def test_attention_is_its_formula():
    block = build("vit_patch16_512x10", **DROPOUT).blocks[3].eval()
    x = torch.randn(2, 5, 512)
    q, k, v = (x @ w.T for w in block.qkv.weight.chunk(3))
    heads = []
    for h in range(8):
        part = slice(64 * h, 64 * h + 64)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / 8).softmax(2)
        heads.append(weights @ v[..., part])
    after = x + block.out[0](torch.cat(heads, 2))
    hidden = nn.functional.gelu(block.mlp[0](after))
    assert torch.allclose(block(x), after + block.mlp[3](hidden), atol=1e-5)


def test_the_transformer_drops_out_as_much_as_is_said():
    for share in (0.01, 0.1):
        net = build("vit_patch16_512x10", dropout=share)
        found = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
        assert found == [share] * 31
        x = torch.randn(1, 3, 32, 32)
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


def test_instance_norm_replaces_every_batch_norm():
    net = build("resnet18_instance", resolution=64)
    groups = [m for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert len(groups) == 20
    assert all(m.num_groups == m.num_channels for m in groups)


@pytest.mark.parametrize("name", ["resnet18", "resnet101"])
def test_names_of_torchvision_are_kept(name):
    from torchvision import models

    wanted = models.get_model(name, num_classes=10).state_dict()
    found = build(f"{name}_modified").state_dict()
    assert found.keys() == wanted.keys()
    changed = [name for name in found if found[name].shape != wanted[name].shape]
    assert changed == ["conv1.weight"]


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("resnetap10", {"layer0.conv1.weight", "layer2.0.downsample.2.bias", "fc.bias"}),
        ("alexnet_small", {"features.0.weight", "features.10.bias", "fc.weight"}),
        ("vgg11_small", {"features.1.weight", "features.25.bias", "classifier.bias"}),
    ],
)
def test_names_of_public_checkpoints_are_kept(arch, names):
    assert names <= build(arch, **INSTANCE).state_dict().keys()


def rows_of_the_page():
    text = (Path(__file__).parents[2] / "docs/architectures.md").read_text()
    for line in text.splitlines():
        if line.startswith("| `") and not line.startswith("| `arch`"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_has_every_network_with_its_parameters_and_rate():
    rows = {name: row for row in rows_of_the_page() for name in re.findall(r"`([^`]+)`", row[0])}
    assert registry.ARCHITECTURES.keys() | protocols.LEARNING_RATES.keys() <= rows.keys()
    for name, row in rows.items():
        rate = protocols.LEARNING_RATES.get(name)
        assert row[4].startswith(str(rate) if rate else "–"), name
    for name in registry.ARCHITECTURES:
        *counts, task = re.findall(r"([\d,]+\d)(?: |$)|\((\d+, \d+)\)", rows[name][2])
        n_classes, resolution = map(int, task[1].split(", "))
        norm = "instance" if "`norm` instance" in rows[name][1] else "batch"
        net = build(name, n_classes, resolution, width=128, norm=norm, dropout=0.01)
        assert f"{n_parameters(net):,}" in [count for count, _ in counts], name
