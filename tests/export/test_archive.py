"""Archives of results: their files, their manifest, equal bytes."""

import hashlib
import json
import os
import shutil
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from stillhouse.errors import StillhouseError
from stillhouse.export import archive


def put(path, text="x"):
    """Write a file below ``results``."""
    path = Path("results") / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def few(empty):
    """Write some results, a checkpoint, a temporary file, a log and a benchmark."""
    for path in ("tables/x.csv", "distilled/d/a-1/ipc1-seed0/images.parquet", "report/x.html"):
        put(path, path)
    for path in (".work/a/state", "tables/.host.1.x.csv.tmp", "logs/a.log", "benchmarks/a.jsonl"):
        put(path)
    return empty


def contents(path):
    """Return {name: bytes} of an archive, in its order."""
    with tarfile.open(path) as tar:
        assert all((one.uid, one.uname, one.mode) == (0, "", 0o644) for one in tar.getmembers())
        return {one.name: tar.extractfile(one).read() for one in tar.getmembers()}


def test_an_archive_has_all_results_in_order_and_no_side_files(few):
    line = archive.archive("out.tar")
    found = contents("out.tar")
    assert list(found) == [
        "ro-crate-metadata.json",
        "results/distilled/d/a-1/ipc1-seed0/images.parquet",
        "results/report/x.html",
        "results/tables/x.csv",
    ]
    assert found["results/tables/x.csv"] == b"tables/x.csv"
    assert line.startswith("out.tar: 3 files, ")


def test_the_manifest_has_size_and_checksum_of_every_file(few):
    archive.archive("out.tar")
    found = contents("out.tar")
    graph = {one["@id"]: one for one in json.loads(found.pop("ro-crate-metadata.json"))["@graph"]}
    root = graph["./"]
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    assert root["name"] == "Stillhouse results: x"
    assert [part["@id"] for part in root["hasPart"]] == list(found)
    for name, data in found.items():
        assert graph[name]["contentSize"] == str(len(data))
        assert graph[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert graph[name]["encodingFormat"]


def test_unchanged_results_give_the_same_bytes(few):
    archive.archive("one.tar")
    put("logs/b.log")
    archive.archive("two.tar")
    assert Path("one.tar").read_bytes() == Path("two.tar").read_bytes()


def test_an_unpacked_archive_has_times_in_the_same_order(few):
    old, new = put("tables/old.csv"), put("tables/new.csv")
    os.utime(old, (1000.2, 1000.2))
    os.utime(new, (1000.9, 1000.9))
    archive.archive("out.tar")
    with tarfile.open("out.tar") as tar:
        times = {one.name: one.mtime for one in tar.getmembers()}
    assert times["results/tables/old.csv"] == times["results/tables/new.csv"] == 1000


def test_large_files_are_not_read_into_memory(few):
    os.truncate(put("labels/d/labels.parquet"), 2**26)
    tracemalloc.start()
    archive.archive("out.tar")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Path("out.tar").stat().st_size > 2**26 > 8 * peak


def test_an_error_leaves_the_earlier_archive(few, monkeypatch):
    archive.archive("out.tar")
    before = Path("out.tar").read_bytes()
    monkeypatch.setattr(archive, "metadata", lambda paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        archive.archive("out.tar")
    assert Path("out.tar").read_bytes() == before
    assert sorted(path.name for path in few.iterdir()) == ["out.tar", "results"]


@pytest.mark.parametrize(
    ("target", "message"),
    [("out.zip", r"must end in \.tar"), ("results/out.tar", "outside of results/")],
)
def test_wrong_targets_are_one_line(few, target, message):
    with pytest.raises(StillhouseError, match=message):
        archive.archive(target)


def test_no_results_and_no_folder_are_one_line(few):
    with pytest.raises(StillhouseError, match=r"missing/out\.tar: not written"):
        archive.archive("missing/out.tar")
    shutil.rmtree("results")
    with pytest.raises(StillhouseError, match="no results"):
        archive.archive("out.tar")
