import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stillhouse.artifacts import foreign_files
from stillhouse.errors import StillhouseError

WEIGHTS = {
    "safetensors": lambda path: save_file({"a": torch.ones(2)}, path),
    "checkpoint": lambda path: torch.save({"a": torch.ones(2)}, path),
    "old checkpoint": lambda path: torch.save(
        {"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_recognised_by_their_first_bytes(tmp_path, name):
    WEIGHTS[name](tmp_path / "x")
    foreign_files.check_weights("key", tmp_path / "x")


OTHERS = {
    "text": (lambda path: path.write_text("root:x:0:0"), "is of another format; must be safetens"),
    "empty": (lambda path: path.touch(), "is of another format"),
    "array": (lambda path: np.save(path.open("wb"), np.ones(2)), "is of another format"),
    "pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
        "is a Git LFS pointer; run `git lfs pull`; must be safetensors",
    ),
    "folder": (os.mkdir, "is a folder, not a file; must be a readable file"),
    "pipe": (os.mkfifo, "is a named pipe, not a file"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "gone": (lambda path: path.symlink_to("nothing"), "a link to a missing file"),
    "missing": (lambda path: None, "file not found"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_file_of_weights_is_an_error_of_one_line(tmp_path, name):
    make, message = OTHERS[name]
    path = tmp_path / "x"
    make(path)
    with pytest.raises(StillhouseError, match=message) as caught:
        foreign_files.check_weights("teachers.t.weights.file", path)
    assert str(caught.value).startswith("teachers.t.weights.file: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_devices_are_not_opened(name, monkeypatch):
    monkeypatch.setattr("builtins.open", None)
    assert foreign_files.problem(name) == "is a device, not a file"


def test_a_folder_is_accepted_where_one_is_needed(tmp_path):
    assert foreign_files.problem(tmp_path, folder=True) is None
    (tmp_path / "x").touch()
    assert foreign_files.problem(tmp_path / "x", folder=True) == "is a file, not a folder"
