import re

import pytest
import torch
from stillhouse.artifacts import formats, store
from stillhouse.config import schema
from stillhouse.networks import batchnorm, registry, state_dicts
from stillhouse.networks.features import classifier, penultimate
from torch import nn

SMALL = ["wrn16_2", "mobilenetv2_small", "shufflenetv2_small"]


def build(arch, n_classes=10, resolution=32, seed=0):
    return registry.build({"arch": arch}, n_classes, resolution, seed, "student")


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


def normed(channels, width, kernel):
    """Return the weights of a convolution without bias and of the batch norm after it."""
    return channels * width * kernel**2 + 2 * width


def wrn16_2(n_classes):
    count = 3 * 16 * 9
    for channels, width in ((16, 32), (32, 64), (64, 128)):
        # Norm and convolution, twice; projection; a second block of the same width.
        count += 2 * channels + 9 * channels * width + 2 * width + 9 * width**2
        count += channels * width
        count += 2 * (2 * width + 9 * width**2)
    return count + 2 * 128 + 129 * n_classes


def mobilenetv2_small(n_classes):
    count, channels = normed(3, 16, 3), 16
    for expansion, width, n_blocks in (
        (1, 8, 1), (6, 12, 2), (6, 16, 3), (6, 32, 4), (6, 48, 3), (6, 80, 3), (6, 160, 1)
    ):  # fmt: skip
        for _ in range(n_blocks):
            inner = channels * expansion
            count += normed(channels, inner, 1) + normed(1, inner, 3) + normed(inner, width, 1)
            channels = width
    return count + normed(160, 1280, 1) + 1281 * n_classes


def shufflenetv2_small(n_classes):
    count, channels = normed(3, 24, 1), 24
    for width, n_blocks in ((48, 3), (96, 7), (192, 3)):
        half = width // 2
        count += normed(1, channels, 3) + normed(channels, half, 1)
        count += normed(channels, half, 1) + normed(1, half, 3) + normed(half, half, 1)
        count += n_blocks * (2 * normed(half, half, 1) + normed(1, half, 3))
        channels = width
    return count + normed(192, 1024, 1) + 1025 * n_classes


@pytest.mark.parametrize("n_classes", [10, 100, 200])
@pytest.mark.parametrize("count", [wrn16_2, mobilenetv2_small, shufflenetv2_small])
def test_parameters_are_counted_by_hand(count, n_classes):
    assert n_parameters(build(count.__name__, n_classes)) == count(n_classes)


def test_parameters_are_the_published_number():
    # CRD's zoo; torchvision's 1,366,792 with 1000 classes, other stem and head.
    assert (wrn16_2(100), mobilenetv2_small(100)) == (703_284, 812_836)
    assert shufflenetv2_small(10) == 1_366_792 - 3 * 24 * 8 - 1025 * 990


def test_the_schema_has_every_network():
    pattern = schema.schema()["$defs"]["network"]["properties"]["arch"]["pattern"]
    assert all(re.search(pattern, arch) for arch in registry.ARCHITECTURES)
    assert not re.search(pattern, "wrn40_2")


def maps_of(net, resolution):
    """Return the (channels, side) of the output of every convolution, in order."""
    seen = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, inputs, out: seen.append(tuple(out.shape[1:3])))
    with torch.no_grad():
        outputs = net(torch.randn(4, 3, resolution, resolution))
    assert outputs.shape == (4, 10)
    # Outputs differ between images: no layer sets all activations to zero. (Evaluated with first
    # running statistics, MobileNetV2 nearly does.)
    assert not torch.allclose(outputs[0], outputs[1])
    return seen


@pytest.mark.parametrize(
    ("arch", "n_convolutions", "first", "width", "sides"),
    [
        ("wrn16_2", 16, (16, 1), 128, (4, 8, 16)),
        # At most as many as in G-VBSM's folder of statistics.
        ("mobilenetv2_small", 53, (16, 2), 1280, (1, 2, 4)),
        ("shufflenetv2_small", 56, (24, 1), 1024, (2, 4, 8)),
    ],
)
def test_feature_maps_have_the_documented_sizes(arch, n_convolutions, first, width, sides):
    for resolution, side in zip((16, 32, 64), sides, strict=True):
        maps = maps_of(build(arch), resolution)
        assert len(maps) == n_convolutions
        assert maps[0] == (first[0], resolution // first[1])
        assert maps[-1] == (width, side)


@pytest.mark.parametrize("arch", SMALL)
def test_weights_depend_on_the_seed_alone(arch):
    first = build(arch).state_dict()
    torch.manual_seed(123)
    again, other = build(arch).state_dict(), build(arch, seed=1).state_dict()
    assert all(torch.equal(again[name], first[name]) for name in first)
    drawn = [name for name in first if first[name].ndim == 4]
    assert not any(torch.equal(other[name], first[name]) for name in drawn)


@pytest.mark.parametrize("arch", ["wrn16_2", "mobilenetv2_small"])
def test_initial_weights_are_he_over_the_outputs(arch):
    for module in build(arch).modules():
        # Enough numbers for their deviation to be near that of the law.
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 200:
            law = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert module.weight.std().item() == pytest.approx(law, rel=0.2)


@pytest.mark.parametrize("arch", SMALL)
def test_training_lowers_the_loss(arch):
    net = build(arch, 4)
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 16, 16, generator=rng)
    labels = torch.arange(16) % 4
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert losses[-1] < losses[0] / 2


@pytest.fixture(params=SMALL)
def used(request):
    """Return a network with changed running statistics, and four images."""
    net = build(request.param)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _ in range(3):
            net(images)
    return net.eval(), images


def test_weights_are_restored_from_a_file(used, tmp_path):
    net, images = used
    wanted = net(images)
    formats.save_tensors(tmp_path / "x.safetensors", net.state_dict())
    for tensor in net.state_dict().values():
        tensor.zero_()
    state_dicts.load(net, store.load_tensors(tmp_path / "x.safetensors"), "x")
    assert torch.equal(net(images), wanted)


def test_folded_batch_norms_give_the_same_outputs(used):
    net, images = used
    wanted = net(images)
    folded = batchnorm.fold_batchnorm(net)
    assert any(isinstance(module, nn.Identity) for module in folded.modules())
    torch.testing.assert_close(folded(images), wanted, atol=1e-4, rtol=1e-4)


def test_features_are_the_averages_of_the_last_maps(used):
    net, images = used
    features = penultimate(net, images)
    # After ReLU, the input of the linear layer.
    assert features.min() >= 0
    torch.testing.assert_close(classifier(net)(features), net(images))


@pytest.mark.parametrize(("number", "stride"), [(0, 1), (1, 1), (2, 2)])
def test_a_block_of_the_wide_network_is_its_formula(number, stride):
    block = build("wrn16_2").blocks[number].double()
    x = torch.randn(3, block.activation[0].num_features, 6, 6, dtype=torch.float64)

    def active(x):
        mean = x.mean((0, 2, 3), keepdim=True)
        return ((x - mean) / (x.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()).relu()

    convolve = nn.functional.conv2d
    first, second = (m.weight for m in block.residual if isinstance(m, nn.Conv2d))
    inner = active(convolve(active(x), first, stride=stride, padding=1))
    short = x if number == 1 else convolve(active(x), block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), convolve(inner, second, padding=1) + short)


def test_mobilenet_has_neither_six_nor_dropout():
    net = build("mobilenetv2_small")
    assert not any(isinstance(module, nn.ReLU6) for module in net.modules())
    assert all(module.p == 0 for module in net.modules() if isinstance(module, nn.Dropout))
    # Every block begins with a 1 × 1 convolution, the first one too.
    assert [block.conv[0][0].kernel_size for block in net.features[1:-1]] == [(1, 1)] * 17


def test_shufflenet_is_torchvisions_but_for_the_stem():
    from torchvision.models import shufflenet_v2_x0_5

    wanted = shufflenet_v2_x0_5(num_classes=10).state_dict()
    actual = build("shufflenetv2_small").state_dict()
    assert actual.keys() == wanted.keys()
    changed = [name for name in actual if actual[name].shape != wanted[name].shape]
    assert changed == ["conv1.0.weight"]


def changed_inputs(net, resolution):
    """Return the names of convolutions and batch norms whose input is changed in place."""
    seen = []
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.register_forward_pre_hook(
                lambda module, inputs, name=name: seen.append((name, inputs[0], inputs[0]._version))
            )
    net(torch.randn(2, 3, resolution, resolution))
    return [name for name, x, version in seen if x._version != version]


@pytest.mark.parametrize("arch", sorted(registry.ARCHITECTURES))
def test_inputs_of_convolutions_and_batch_norms_are_not_overwritten(arch):
    # Hooks that store these inputs for a backward pass need them unchanged.
    chosen = arch.startswith(("convnet", "resnetap10", "vgg11"))
    for norm in ("batch", "instance") if chosen else ("batch",):
        settings = {"arch": arch, "width": 4, "norm": norm, "dropout": 0.1}
        assert changed_inputs(registry.build(settings, 3, 64, 0, "teacher"), 64) == []


def test_an_overwritten_input_is_detected():
    class Careless(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            x = self.first(x)
            return self.second(x) + x.relu_()

    assert changed_inputs(Careless(), 4) == ["second"]
