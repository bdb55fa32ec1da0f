import itertools

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
        ("alexnet_small", {}, 10, 128, alexnet_small(10, 128)),
        ("alexnet_small", {}, 10, 32, alexnet_small(10, 32)),
        ("vgg11_small", INSTANCE, 10, 128, vgg11_small(10)),
        ("vgg11_small", {"norm": "batch"}, 10, 32, vgg11_small(10)),
        ("vit_patch16_512x10", DROPOUT, 10, 128, vit_512x10(10, 128)),
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


@pytest.mark.parametrize(
    ("arch", "settings"),
    [
        ("alexnet_small", {}),
        ("vgg11_small", INSTANCE),
        ("vit_patch16_512x10", DROPOUT),
    ],
)
def test_weights_depend_on_the_seed_alone(arch, settings):
    first = build(arch, 3, 48, **settings).state_dict()
    torch.manual_seed(123)
    again = build(arch, 3, 48, **settings).state_dict()
    other = build(arch, 3, 48, seed=1, **settings).state_dict()
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert any(not torch.equal(other[name], first[name]) for name in first)


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


def test_dropout_of_the_transformer_is_that_of_the_settings():
    for share in (0.01, 0.1):
        net = build("vit_patch16_512x10", dropout=share)
        actual = [m.p for m in net.modules() if isinstance(m, nn.Dropout)]
        assert actual == [share] * 31
        x = torch.randn(1, 3, 32, 32)
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize(
    ("arch", "names"),
    [
        ("alexnet_small", {"features.0.weight", "features.10.bias", "fc.weight"}),
        ("vgg11_small", {"features.1.weight", "features.25.bias", "classifier.bias"}),
    ],
)
def test_parameter_names_are_those_of_public_checkpoints(arch, names):
    assert names <= build(arch, **INSTANCE).state_dict().keys()
