"""Checkpoints as other projects' training scripts save them."""

import argparse
import collections
import copy
import datetime
import os
import pathlib
import re
import sys
import types
import uuid

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.errors import StillhouseError
from stillhouse.networks import foreign_weights, registry, state_dicts


def build(seed=0):
    settings = {"arch": "convnet1", "width": 4, "norm": "batch"}
    return registry.build(settings, 3, 8, seed, "student")


def trained():
    net = build(9)
    net(torch.randn(4, 3, 8, 8))
    return net


@pytest.fixture(scope="module")
def source():
    return trained()


def check_loaded(path, state):
    net = build()
    state_dicts.load_foreign(net, path)
    for name, tensor in net.state_dict().items():
        assert "num_batches" in name or torch.equal(tensor, state[name]), name


def reference_style(net):
    """Of torchvision's references/classification/train.py."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    return {
        "model": copy.deepcopy(net.state_dict()),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, output_dir=pathlib.Path("out"), device="cuda"),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }


def averaged(net):
    return torch.optim.swa_utils.AveragedModel(net).state_dict()


def compiled(net):
    return torch.compile(net).state_dict()


STYLES = {
    "reference": reference_style,
    "best_acc1": lambda net: {
        **{"epoch": 3, "arch": "resnet18", "best_acc1": np.float64(76.1), "n": np.int64(5)},
        "state_dict": torch.nn.DataParallel(net).state_dict(),
    },
    "scores": lambda net: {"net": net.state_dict(), "acc": torch.tensor(93.0), "curve": np.ones(3)},
    "averaged": averaged,
    "ema in a checkpoint": lambda net: {"model_ema": averaged(net), "epoch": 1},
    "compiled": compiled,
    "compiled in parallel": lambda net: torch.nn.DataParallel(torch.compile(net)).state_dict(),
    "parallel compiled": lambda net: torch.compile(torch.nn.DataParallel(net)).state_dict(),
    "compiled layer": lambda net: {
        name.replace("features.", "features._orig_mod."): t for name, t in net.state_dict().items()
    },
    "lightning": lambda net: {
        "state_dict": {f"model.{name}": t for name, t in net.state_dict().items()},
        **{"epoch": 1, "callbacks": {}, "loops": {}, "pytorch-lightning_version": "2.5.0"},
        "optimizer_states": [{"state": collections.defaultdict(dict)}],
    },
    "counted": lambda net: {
        **net.state_dict(),
        **{"total_ops": torch.zeros(1), "features.0.total_params": torch.zeros(1)},
    },
    "times": lambda net: {
        "state_dict": net.state_dict(),
        "saved": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "config": types.SimpleNamespace(lr=0.1, names={"a", "b"}, frozen=frozenset([1])),
    },
    "random states": lambda net: {
        **{"model": net.state_dict(), "numpy": np.random.get_state(), "id": uuid.uuid4()},  # noqa: NPY002
        **{"torch": torch.get_rng_state(), "losses": collections.deque([1.0, 2.0], maxlen=3)},
        **{"best": [np.float32(1), np.bool_(True), np.array([{"a": 1}], dtype=object)]},
    },
    "deepspeed": lambda net: {"module": net.state_dict(), "ds_config": {}, "dp_world_size": 1},
    "teacher": lambda net: {
        kind: {f"module.backbone.{name}": t * factor for name, t in net.state_dict().items()}
        for kind, factor in (("student", 2), ("teacher", 1))
    },
    "half": lambda net: net.half().state_dict(),
    "double": lambda net: net.double().state_dict(),
    "nested": lambda net: {"model": {"state_dict": net.state_dict(), "epoch": 2}},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", STYLES)
def test_checkpoints_of_other_projects_are_loaded(tmp_path, source, name, legacy):
    net = copy.deepcopy(source)
    content = STYLES[name](net)
    torch.save(content, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=not legacy)
    wanted = {key: tensor.float() for key, tensor in net.state_dict().items()}
    check_loaded(tmp_path / "x.pth.tar", wanted)


class AttributeDict(dict):
    """As Lightning's: its hyper-parameters are attributes too."""


def test_hyper_parameters_of_lightning_are_ignored(tmp_path, source, monkeypatch):
    module = types.ModuleType("lightning_fabric.utilities.data")
    module.AttributeDict = AttributeDict
    monkeypatch.setitem(sys.modules, "lightning_fabric", types.ModuleType("lightning_fabric"))
    monkeypatch.setitem(sys.modules, "lightning_fabric.utilities", types.ModuleType("utilities"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(AttributeDict, "__module__", module.__name__)
    content = {"state_dict": source.state_dict(), "hyper_parameters": AttributeDict(lr=0.1)}
    torch.save(content, tmp_path / "x.ckpt")
    check_loaded(tmp_path / "x.ckpt", source.state_dict())


PREFIXES = st.lists(
    st.sampled_from(["module.", "_orig_mod.", "model.", "net.", "network.", "backbone."]),
    max_size=4,
).map("".join)
OTHERS = st.dictionaries(
    st.sampled_from(["epoch", "optimizer", "args", "best"]),
    st.none() | st.integers() | st.text() | st.lists(st.floats()),
)


@given(PREFIXES, st.lists(st.sampled_from(foreign_weights.WRAPPERS), max_size=3), OTHERS)
def test_any_combination_of_prefixes_and_wrappers_is_loaded(tmp_path_factory, prefix, keys, others):
    net = trained()
    content = {f"{prefix}{name}": tensor for name, tensor in net.state_dict().items()}
    for key in keys:
        content = {**others, key: content}
    path = tmp_path_factory.mktemp("wrapped") / "x.pt"
    torch.save(content, path)
    check_loaded(path, net.state_dict())


def test_features_and_head_may_have_different_prefixes(tmp_path, source):
    state = {
        ("head." if "classifier" in name else "model.backbone.") + name: tensor
        for name, tensor in source.state_dict().items()
    }
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(StillhouseError, match=r"missing tensor 'classifier\.weight' \(but 'head\."):
        check_loaded(tmp_path / "x.pth", source.state_dict())
    torch.save({name.removeprefix("head."): t for name, t in state.items()}, tmp_path / "x.pth")
    check_loaded(tmp_path / "x.pth", source.state_dict())


def test_of_several_state_dicts_that_fit_the_choice_is_printed(tmp_path, source, capsys):
    other = {name: tensor + 1 for name, tensor in source.state_dict().items()}
    torch.save({"ema": other, "model": source.state_dict()}, tmp_path / "x.pth")
    check_loaded(tmp_path / "x.pth", source.state_dict())
    assert "the weights under model are loaded, not those under ema" in capsys.readouterr().out
    other = {name: tensor for name, tensor in other.items() if "classifier" not in name}
    torch.save({"state_dict": other, "teacher": source.state_dict()}, tmp_path / "x.pth")
    check_loaded(tmp_path / "x.pth", source.state_dict())
    assert capsys.readouterr().out == ""


def test_a_tensor_under_two_prefixes_is_an_error(tmp_path, source):
    state = source.state_dict()
    twice = {**state, **{f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(twice, tmp_path / "x.pth")
    with pytest.raises(
        StillhouseError, match=r"'features.0.weight' and 'module.features.0.weight'"
    ):
        check_loaded(tmp_path / "x.pth", state)


def test_safetensors_are_recognised_by_their_content(tmp_path, source):
    from safetensors.torch import save_file

    save_file(source.state_dict(), tmp_path / "pytorch_model.bin")
    check_loaded(tmp_path / "pytorch_model.bin", source.state_dict())


class Settings:
    """A class of a training script."""


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


REFUSED = {
    "settings": (lambda net, path: {"model": net.state_dict(), "cfg": Settings()}, "Settings"),
    "network": (lambda net, path: net, "stillhouse.networks.convnet.ConvNet"),
    "trap": (lambda net, path: {"model": net.state_dict(), "x": Malicious(path)}, "system"),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_pickled_class_is_named_and_not_loaded(tmp_path, source, name, legacy):
    make, message = REFUSED[name]
    path = tmp_path / "best model.pth"
    torch.save(make(source, tmp_path / "owned"), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(StillhouseError, match=rf"^{re.escape(str(path))}: .*{message}") as caught:
        check_loaded(path, source.state_dict())
    text = str(caught.value)
    assert text.isprintable() and "weights_only=False" not in text and "trust" not in text
    assert text.endswith('by safetensors.torch.save_model(model, "best_model.safetensors")')
    assert not (tmp_path / "owned").exists()


def test_replaced_classes_are_not_called(tmp_path, source, monkeypatch):
    def called(*arguments, **options):
        raise AssertionError

    content = STYLES["best_acc1"](source) | {"args": argparse.Namespace(a=1)}
    torch.save(content, tmp_path / "x.pth")
    monkeypatch.setattr(argparse.Namespace, "__init__", called)
    monkeypatch.setattr(argparse.Namespace, "__setstate__", called, raising=False)
    check_loaded(tmp_path / "x.pth", source.state_dict())


def torchscript(path):
    module = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(module, path)


def protocol(number, legacy):
    options = {"pickle_protocol": number, "_use_new_zipfile_serialization": not legacy}
    return lambda path: torch.save({"model": trained().state_dict()}, path, **options)


FILES = {
    **{
        f"protocol {number}": (protocol(number, legacy), "it has pickle_protocol 4 or 5; store it")
        for number, legacy in ((4, False), (5, True))
    },
    "unknown wrapper": (
        lambda path: torch.save({"epoch": 1, "swa_model": trained().state_dict()}, path),
        "it has one under 'swa_model': store that alone",
    ),
    "numbers beside tensors": (
        lambda path: torch.save({"step": 3, **trained().state_dict()}, path),
        "of tensors and nothing else, .* it has 'step', which is no tensor: store the tensors",
    ),
    "numbers under a wrapper": (
        lambda path: torch.save({"ema": {"step": 3, **trained().state_dict()}}, path),
        "it has 'step' under 'ema', which is no tensor",
    ),
    "trajectories": (lambda path: torch.save([[[torch.ones(2)]]], path), "it is a list"),
    "torchscript": (torchscript, "it is a TorchScript program; store it where it was made by safe"),
    "archive": (
        lambda path: np.savez(path.open("wb"), a=np.ones(2)),
        "must be a PyTorch checkpoint",
    ),
    "array": (lambda path: np.save(path.open("wb"), np.ones(2)), "must be a PyTorch checkpoint"),
    "text": (
        lambda path: path.write_text("root:x:0:0:root:/root:/bin/bash\n"),
        "must be a PyTorch",
    ),
    "lfs": (
        lambda path: path.write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        ),
        "it is a Git LFS pointer; run `git lfs pull`",
    ),
    "page": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "it is an HTML page"),
    "empty": (lambda path: path.write_bytes(b""), "must be a PyTorch checkpoint"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "pipe": (os.mkfifo, "is a named pipe, not a file"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "missing": (lambda path: None, "No such file or directory"),
    "numbers": (lambda path: torch.save({1: torch.ones(2)}, path), "must contain a state dict"),
    "arrays": (lambda path: torch.save({"a": np.ones(2)}, path), "must contain a state dict"),
    "list": (lambda path: torch.save([torch.ones(2)], path), "must contain a state dict"),
    "tensor": (lambda path: torch.save(torch.ones(2), path), "must contain a state dict"),
    "nothing": (lambda path: torch.save({}, path), "must contain a state dict"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_checkpoint_is_an_error_of_one_line(tmp_path, source, name):
    make, message = FILES[name]
    path = tmp_path / "x.pth"
    make(path)
    with pytest.raises(StillhouseError, match=message) as caught:
        check_loaded(path, source.state_dict())
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable() and "weights_only=False" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.zeros(3, 64, dtype=torch.int8), "cpu, strided, int8"),
        (torch.zeros(3, 64, dtype=torch.complex64), "cpu, strided, complex64"),
        (torch.zeros(3, 64, device="meta"), "meta, strided, float32"),
        (torch.zeros(3, 64).to_sparse(), "cpu, sparse_coo, float32"),
    ],
)
def test_tensors_of_other_types_are_an_error(tmp_path, source, tensor, kind):
    torch.save({**source.state_dict(), "classifier.weight": tensor}, tmp_path / "x.pth")
    with pytest.raises(StillhouseError, match=rf"type of 'classifier.weight' \({kind}\) must be"):
        check_loaded(tmp_path / "x.pth", source.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_floats_of_any_width_are_loaded(tmp_path, source, dtype):
    from safetensors.torch import save_file

    state = {k: t.to(dtype) if t.is_floating_point() else t for k, t in source.state_dict().items()}
    save_file(state, tmp_path / "x.safetensors")
    check_loaded(tmp_path / "x.safetensors", {k: t.float() for k, t in state.items()})
    state["classifier.bias"] = torch.full_like(source.state_dict()["classifier.bias"], np.nan)
    save_file({**state, "classifier.bias": state["classifier.bias"].to(dtype)}, tmp_path / "x.bin")
    with pytest.raises(StillhouseError, match=r"'classifier.bias': 3 of 3 numbers are not finite"):
        check_loaded(tmp_path / "x.bin", state)


@given(st.data())
def test_a_damaged_checkpoint_is_loaded_or_an_error_of_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "x.pth"
    torch.save({"model": trained().state_dict(), "args": argparse.Namespace(a=1)}, path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        state_dicts.load_foreign(build(), path)
    except StillhouseError as error:
        assert str(error).isprintable() and str(error).startswith(f"{path}: ")
        assert "weights_only=False" not in str(error)
