import copy
import os
import re

import pytest
import torch
from stillhouse.artifacts import formats
from stillhouse.errors import StillhouseError
from stillhouse.networks import registry, state_dicts


def build(arch="convnet1", n_classes=3, resolution=8, seed=0, stage="student", **settings):
    settings = {"arch": arch, "width": 4, "norm": "batch", **settings}
    return registry.build(settings, n_classes, resolution, seed, stage)


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
    state_dicts.load_foreign(net, tmp_path / "x.pth")
    for name, tensor in net.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(tensor, state[name]), name


def test_foreign_safetensors_are_loaded(tmp_path, state):
    formats.save_tensors(
        tmp_path / "x.safetensors", {f"module.{name}": t for name, t in state.items()}
    )
    net = build("convnet1")
    state_dicts.load_foreign(net, tmp_path / "x.safetensors")
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
            "missing tensor 'classifier.bias'; check the architecture",
        ),
        (lambda s, p: {**s, "fc.bias": s["classifier.bias"]}, "unknown tensor 'fc.bias'"),
        (
            lambda s, p: {**s, "classifier.weight": torch.zeros(10, 64)},
            r"shape \(10, 64\) of 'classifier.weight' must be \(3, 64\)",
        ),
        (lambda s, p: {"epoch": 3}, "must contain a state dict of tensors"),
        (lambda s, p: [1, 2], "must contain a state dict of tensors"),
        (lambda s, p: {**s, "note": "text"}, "must contain a state dict of tensors"),
        (lambda s, p: {"model": s, "trap": Malicious(p / "owned")}, "not readable with weights"),
        (lambda s, p: Malicious(p / "owned"), "not readable with weights_only"),
    ],
)
def test_unsuitable_weights_are_an_error_of_one_line(tmp_path, state, change, message):
    path = tmp_path / "x.pth"
    torch.save(change(state, tmp_path), path)
    net = build("convnet1")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(StillhouseError, match=re.escape(f"{path}: ") + f".*{message}") as caught:
        state_dicts.load_foreign(net, path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.pt"])
def test_files_without_weights_are_an_error_of_one_line(tmp_path, name):
    path = tmp_path / name
    for write in (lambda: None, lambda: path.write_bytes(b"no weights")):
        write()
        with pytest.raises(StillhouseError, match=re.escape(str(path))) as caught:
            state_dicts.load_foreign(build(), path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named_as_such(tmp_path, state, suffix, bad):
    state["features.0.weight"][0, 0] = bad
    path = tmp_path / f"x.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_elsewhere(path, state)
    with pytest.raises(StillhouseError) as raised:
        state_dicts.load_foreign(build("convnet1"), path)
    assert str(raised.value) == (
        f"{path}: tensor 'features.0.weight': 9 of 108 numbers are not finite; use other weights, "
        "or the original file"
    )


def save_elsewhere(path, tensors):
    """Write safetensors as another program would, without a check."""
    from safetensors.torch import save_file

    save_file(tensors, path)
