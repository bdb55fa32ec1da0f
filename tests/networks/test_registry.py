import copy
import os
import re

import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.networks import registry
from torch import nn


def build(arch="convnet1", n_classes=3, resolution=8, seed=0, stage="student", **settings):
    settings = {"arch": arch, "width": 4, "norm": "batch", **settings}
    return registry.build(settings, n_classes, resolution, seed, stage)


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("arch", "settings", "n_classes", "resolution", "count"),
    [
        # 3·9·w + w, (w·9·w + w)·(d - 1), 2·w·d for the norm, then a linear layer.
        ("convnet3", {"width": 128}, 10, 32, 320_010),
        ("convnet3", {"width": 128, "norm": "instance"}, 10, 32, 320_010),
        ("convnet4", {"width": 128}, 200, 64, 857_160),
        ("convnet6", {"width": 128}, 100, 128, 794_340),
        ("convnet1", {"width": 4}, 3, 8, 315),
        # torchvision's 11,181,642 with 10 classes, less the 7 × 7 stem, with a 3 × 3 one.
        ("resnet18_modified", {}, 10, 32, 11_173_962),
        ("resnet18_modified", {}, 100, 32, 11_220_132),
    ],
)
def test_parameters_are_counted_by_hand(arch, settings, n_classes, resolution, count):
    net = build(arch, n_classes, resolution, **settings)
    assert n_parameters(net) == count
    side = min(resolution, 32) if arch == "resnet18_modified" else resolution
    assert net.eval()(torch.zeros(2, 3, side, side)).shape == (2, n_classes)


def test_a_convnet_is_its_blocks_in_order():
    kinds = [type(module).__name__ for module in build("convnet2").features]
    block = ["Conv2d", "BatchNorm2d", "ReLU", "AvgPool2d"]
    assert kinds == [*block, *block]
    norm = build("convnet2", norm="instance").features[1]
    x = torch.randn(2, 4, 5, 5)
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    assert torch.allclose(norm(x), (x - mean) / (var + norm.eps).sqrt(), atol=1e-5)


def test_the_stem_of_the_modified_resnet_keeps_the_size():
    net = build("resnet18_modified")
    x = torch.zeros(1, 3, 8, 8)
    assert net.maxpool(net.conv1(x)).shape == (1, 64, 8, 8)
    assert net.conv1.bias is None
    # He initialisation over the outputs, as torchvision's other convolutions.
    assert abs(net.conv1.weight.std().item() - (2 / (64 * 9)) ** 0.5) < 0.005


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("arch", ["convnet2", "resnet18_modified"])
def test_weights_depend_on_the_seed_alone(arch):
    first = build(arch)
    torch.manual_seed(123)
    torch.rand(7)
    assert equal(build(arch), first)
    assert not equal(build(arch, seed=1), first)
    assert not equal(build(arch, stage="teacher"), first)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build("resnet18_modified")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(RuntimeError), registry.global_generator(0, "student"):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def test_the_lent_random_state_is_addressed():
    def numbers(*address):
        with registry.global_generator(*address):
            return torch.rand(3).tolist()

    assert numbers(0, "dropout", 1) == numbers(0, "dropout", 1)
    others = [(0, "dropout", 1), (1, "dropout", 1), (0, "weights", 1), (0, "dropout", 2)]
    assert len({tuple(numbers(*address)) for address in others}) == 4


def test_two_batchnorm_updates_are_two_forward_passes():
    torch.manual_seed(0)
    once, twice = build("convnet2"), build("convnet2")
    registry.set_batchnorm_updates(once, 2)
    for _ in range(3):
        x = torch.randn(6, 3, 8, 8) * 3 + 1
        once.train()(x)
        twice.train()(x)
        twice.train()(x)
    found, wanted = once.state_dict(), twice.state_dict()
    for name in found:
        if "running" in name:
            assert torch.allclose(found[name], wanted[name], rtol=1e-5), name
    assert not torch.allclose(found["features.1.running_mean"], torch.zeros(4), atol=1e-3)


def test_one_batchnorm_update_is_the_default():
    net = build("convnet2")
    registry.set_batchnorm_updates(net, 1)
    momenta = [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta == pytest.approx([0.1, 0.1])


@pytest.fixture
def state():
    net = build("convnet1", seed=9)
    net(torch.randn(4, 3, 8, 8))
    return copy.deepcopy(net.state_dict())


def nested(state):
    return {"epoch": 3, "state_dict": {f"module.{name}": t for name, t in state.items()}}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        nested,
        lambda state: {"model": state, "args": {"lr": 0.1}},
        lambda state: {"model": nested(state)["state_dict"]},
        lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
    ],
)
def test_foreign_weights_are_loaded(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "x.pth")
    net = build("convnet1")
    registry.load_foreign(net, tmp_path / "x.pth")
    for name, tensor in net.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(tensor, state[name]), name


def test_foreign_safetensors_are_loaded(tmp_path, state):
    store.save_tensors(
        tmp_path / "x.safetensors", {f"module.{name}": t for name, t in state.items()}
    )
    net = build("convnet1")
    registry.load_foreign(net, tmp_path / "x.safetensors")
    assert torch.equal(net.features[0].weight, state["features.0.weight"])


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def without(state, name):
    return {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s, p: without(s, "classifier.bias"),
            "lacks 'classifier.bias'; does the architecture fit",
        ),
        (lambda s, p: {**s, "fc.bias": s["classifier.bias"]}, "has 'fc.bias', the network has not"),
        (
            lambda s, p: {**s, "classifier.weight": torch.zeros(10, 64)},
            r"'classifier.weight' has shape \(10, 64\), the network wants \(3, 64\)",
        ),
        (lambda s, p: {"epoch": 3}, "holds no state dict of tensors"),
        (lambda s, p: [1, 2], "holds no state dict of tensors"),
        (lambda s, p: {**s, "note": "text"}, "holds no state dict of tensors"),
        (lambda s, p: {"model": s, "trap": Malicious(p / "owned")}, "cannot be read with weights"),
        (lambda s, p: Malicious(p / "owned"), "cannot be read with weights_only"),
    ],
)
def test_weights_that_do_not_fit_get_one_line(tmp_path, state, change, message):
    path = tmp_path / "x.pth"
    torch.save(change(state, tmp_path), path)
    net = build("convnet1")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(StillhouseError, match=re.escape(f"{path}: ") + f".*{message}") as caught:
        registry.load_foreign(net, path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.pt"])
def test_files_that_are_no_weights_get_one_line(tmp_path, name):
    path = tmp_path / name
    for write in (lambda: None, lambda: path.write_bytes(b"no weights")):
        write()
        with pytest.raises(StillhouseError, match=re.escape(str(path))) as caught:
            registry.load_foreign(build(), path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "folded"),
    [
        ({"arch": "convnet3", "width": 8, "norm": "batch"}, 3),
        ({"arch": "convnet3", "width": 8, "norm": "instance"}, 0),
        ({"arch": "vgg11_small", "norm": "batch"}, 8),
        ({"arch": "resnet18_modified"}, 3),
    ],
)
def test_folded_batch_norms_say_the_same(settings, folded):
    net = registry.build(settings, 5, 32, 0, "teacher")
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 32, 32, generator=rng)
    with torch.no_grad():
        for _ in range(3):
            net(images)  # running statistics of their own
        net.eval()
        wanted, norms = net(images), count_norms(net)
        found = registry.fold_batchnorm(net)(images)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert norms - count_norms(net) == folded


def count_norms(net):
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
