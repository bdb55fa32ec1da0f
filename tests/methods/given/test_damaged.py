"""Sets that cannot be read give one line; no pickle is executed."""

import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stillhouse.errors import StillhouseError

from tests.methods.given import layouts
from tests.methods.given.layouts import LABELS, SOFT, pixels

ran = []


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return ran.append, (1,)


def unnamed(root):
    return layouts.folders(root / "set", ["0", "cat", "dog"])


def beyond(root):
    return layouts.folders(root / "set", ["new000", "new001", "new003"])


def short(root):
    folder = layouts.rded(root)
    next((folder / "00001").iterdir()).unlink()
    return folder


def broken_image(root):
    folder = layouts.rded(root)
    next((folder / "00001").iterdir()).write_bytes(b"\x89PNG\r\n\x1a\nno image")
    return folder


def trapped(name):
    def write(root):
        folder = layouts.mtt(root)
        torch.save([Trap()], folder / name)
        return folder

    return write


def trapped_results(root):
    torch.save({"data": [[Trap(), Trap()]]}, root / "res.pt")
    return root / "res.pt"


def plain_pickle(root):
    (root / "res.pt").write_bytes(pickle.dumps({"data": Trap()}))
    return root / "res.pt"


def saved(content):
    def write(root):
        torch.save(content, root / "res.pt")
        return root / "res.pt"

    return write


def npz(**arrays):
    return lambda root: layouts.npz(root, **arrays)


def parquet(**columns):
    return lambda root: layouts.parquet(root, **columns)


def written(name, data):
    def write(root):
        (root / name).write_bytes(data)
        return root / name

    return write


FLOAT = pixels().astype(np.float32)
REFUSED = [
    (unnamed, "unknown classes: cat, dog; folders must be the class ids of the dataset, or the"),
    (beyond, "unknown classes: new000, new001, new003"),
    (short, r"images per class must be the IPC, 2, not '1' 1 \(1 of 3 classes\)"),
    (broken_image, r"image 2: not a readable image|image 3: not a readable image"),
    (npz(labels=LABELS[:5]), r"labels: shape \(5,\) for 6 images; must be one per image"),
    (npz(labels=LABELS + 1), "labels: 1 to 3; must be positions of the dataset's classes, 0 to 2"),
    (npz(labels=LABELS - 1), "labels: -1 to 1; must be"),
    (npz(labels=LABELS / 2), r"labels: float64 of shape \(6,\); must be integers"),
    (npz(labels=np.array(["cat"] * 6)), "labels: unknown class 'cat'; must be a class id"),
    (npz(labels=SOFT[:, :2]), r"labels: shape \(6, 2\); must be one number per image, or 3"),
    (npz(labels=SOFT * np.nan), "labels: not all are finite"),
    (npz(labels=SOFT[::-1] * 0), r"images per class must be the IPC, 2, not '0' 6, '1' 0, '2' 0"),
    (npz(labels=np.zeros((6, 3, 1))), r"labels: float64 of shape \(6, 3, 1\)"),
    (npz(images=FLOAT), "images: float32 without mean and std; store them in the file, or set"),
    (npz(images=FLOAT + np.inf, mean=layouts.MEAN, std=layouts.STD), "not all pixels are finite"),
    (npz(images=FLOAT, mean=layouts.MEAN), "mean and std: must be three numbers each"),
    (npz(images=pixels().astype(int)), "images: int64; must be uint8 or floats"),
    (npz(images=pixels()[0]), r"images: shape \(3, 8, 8\); must be \(n, 3, height, width\)"),
    (npz(images=pixels()[:, :2]), r"images: shape \(6, 2, 8, 8\); must be"),
    (npz(learning_rate=np.zeros(2)), "learning_rate: must be one number"),
    (npz(labels=np.array([Trap()] * 6, object)), "with pickled objects, which are not read"),
    (parquet(labels=[0, 1, 2, 0, 1, None]), "label: missing in some rows"),
    (parquet(labels=[[0], [1, 2], [0], [1], [2], [0]]), "label: must be one per image"),
    (parquet(learned_label=[[1.0]] * 5 + [[1.0, 2.0]]), "learned_label: must be one number per"),
    (parquet(metadata={"learning_rate": "x"}), "learning_rate: must be a number; correct it"),
    (trapped("images_best.pt"), "not readable with weights_only: it holds the class"),
    (trapped("labels_best.pt"), "not readable with weights_only: it holds the class"),
    (trapped_results, r"store it where it was made by safetensors\.torch\.save_file\(\{\"images\""),
    (plain_pickle, "not readable with weights_only"),
    (saved(torch.zeros(3)), "must be a dict with data, a list of"),
    (saved({"data": []}), "must be a dict with data, a list of"),
    (saved({"data": [[1]]}), r"data: must be \[images, labels\] per run"),
    (saved({"data": [["a", "b"]]}), "res.pt: holds str; must be a tensor"),
    (written("set.npz", b"<html>"), "not a readable .npz file an HTML page; download the file"),
    (written("set.npz", b"PK\x03\x04"), r"not a readable .npz file \("),
    (written("set.safetensors", b"x" * 20), r"not a readable safetensors file \("),
    (written("set.parquet", b"PAR1"), r"not a readable Parquet file \("),
]


@pytest.mark.parametrize(("write", "message"), REFUSED, ids=[m[:40] for _, m in REFUSED])
def test_a_set_that_cannot_be_used_is_one_line(write, message, tmp_path, read):
    with pytest.raises(StillhouseError, match=message) as raised:
        read(write(tmp_path))
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
    assert ran == []


def test_an_ipc_of_none_of_the_classes_is_one_line(tmp_path, read):
    message = r"2 images per class, but the IPC is 1; set the experiment's ipc to \[2\]"
    with pytest.raises(StillhouseError, match=message):
        read(layouts.npz(tmp_path), ipc=1)


def test_missing_columns_and_arrays_are_named(tmp_path, read):
    np.savez(tmp_path / "set.npz", x=pixels(), labels=LABELS)
    with pytest.raises(StillhouseError, match="missing array 'images', has labels, x; store"):
        read(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("layout", "setting", "message"),
    [
        (layouts.rded, {"normalisation": {}}, "normalisation of the method has no effect on image"),
        (layouts.npz, {"run": 0}, "run of the method has no effect on a set of one run"),
    ],
)
def test_a_setting_without_effect_is_refused(layout, setting, message, tmp_path, read):
    with pytest.raises(StillhouseError, match=message):
        read(layout(tmp_path), **setting)


def test_files_that_have_changed_are_refused(tmp_path, read):
    with pytest.raises(StillhouseError, match=f"digest must be {'0' * 64}, as when the run began"):
        read(layouts.npz(tmp_path), sha256="0" * 64)


@pytest.mark.parametrize(
    "layout",
    [layouts.parquet, layouts.npz, layouts.npz_of_text, layouts.tensors, layouts.dc],
    ids=lambda layout: layout.__name__,
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_one_line_or_a_set(layout, data, tmp_path, read):
    path = layout(tmp_path)
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "changed", "replaced"]))
    if kind == "cut":
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    elif kind == "changed":
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(content) - 1))
            content[position] = data.draw(st.integers(0, 255))
    else:
        content = data.draw(st.binary(max_size=200))
    path.write_bytes(bytes(content))
    try:
        assert read(path).pixels.shape == (6, 3, 8, 8)
    except StillhouseError as error:
        text = str(error)
        assert "\n" not in text and text.isprintable() and re.search(r"[;(]", text)
