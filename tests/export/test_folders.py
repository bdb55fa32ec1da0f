"""Exported folders are complete or missing, and replace nothing else."""

import hashlib
import json
from pathlib import Path

import pytest
from stillhouse.errors import StillhouseError
from stillhouse.export import folders


def write(folder, text="one"):
    """Write a folder with a file in a subfolder."""
    with folders.written(folder) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub/a.txt").write_text(text)


def contents(folder):
    """Return {path: text} of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_the_manifest_lists_every_file_with_its_checksum(tmp_path):
    write(tmp_path / "new/out")
    manifest = json.loads((tmp_path / "new/out/manifest.json").read_text())
    sha256 = hashlib.sha256(b"one").hexdigest()
    assert manifest["files"] == {"sub/a.txt": {"bytes": 3, "sha256": sha256}}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_an_unchanged_export_and_an_empty_folder_are_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    write(tmp_path / "out", "two")
    assert contents(tmp_path / "out")["sub/a.txt"] == "two"


@pytest.mark.parametrize("path", ["sub/a.txt", "notes.txt", ".git/HEAD"])
def test_a_folder_with_other_or_changed_files_is_refused_and_kept(tmp_path, path):
    write(tmp_path / "out")
    (tmp_path / "out" / path).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / path).write_text("mine")
    before = contents(tmp_path / "out")
    with pytest.raises(StillhouseError, match=f"conflicts with {path}"):
        write(tmp_path / "out", "two")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "manifest", ["", "[]", '{"files": {}}', '{"exporter": "x", "files": {"a": 1}}']
)
def test_a_folder_with_a_foreign_manifest_is_refused(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(StillhouseError, match=r"conflicts with manifest\.json"):
        write(tmp_path)


def test_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StillhouseError, match="a file"):
        write(tmp_path / "out")


@pytest.mark.parametrize("error", [KeyboardInterrupt, StillhouseError])
def test_an_error_leaves_the_earlier_export_and_no_other_file(tmp_path, error):
    write(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(error), folders.written(tmp_path / "out") as temporary:
        (temporary / "b.txt").write_text("half")
        raise error
    assert contents(tmp_path) == before


@pytest.mark.parametrize("failing", ["out", ".tmp"])
def test_a_folder_that_cannot_be_replaced_is_one_line_and_stays(tmp_path, monkeypatch, failing):
    write(tmp_path / "out")
    before, rename = contents(tmp_path), Path.rename

    def busy(path, target):
        if path.name.endswith(failing):
            raise OSError(16, "Device or resource busy")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", busy)
        with pytest.raises(StillhouseError, match=r"out: not written \(Device or resource busy\)"):
            write(tmp_path / "out", "two")
    assert contents(tmp_path) == before


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(StillhouseError, match=r"out: not written \(No space left on device\)"),
        folders.written(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
