"""A full disk, missing permissions and full memory: one line, nothing half-made, and a resume."""

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from stillhouse.artifacts import formats, jobs, store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context

from tests.artifacts.local_stages import path, produce

MEBIBYTE = 2**20
NUMBERS = np.random.default_rng(0).random(MEBIBYTE, np.float32)
CONTENTS = {
    "x.parquet": pa.table({"x": NUMBERS}),
    "groups.parquet": formats.RowGroups(
        pa.schema([("x", pa.float32())]),
        [pa.table({"x": part}) for part in np.split(NUMBERS, 16)],
    ),
    "x.safetensors": {"x": torch.from_numpy(NUMBERS)},
    "x.json": [float(x) for x in NUMBERS[: MEBIBYTE // 8]],
}


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """Change into a file system of one mebibyte; return it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the permission to mount a file system")
    monkeypatch.chdir(disk)
    yield disk
    monkeypatch.undo()
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_full_disk_is_one_line_with_file_and_missing_bytes(small_disk, name):
    spec = {"stage": "pets", "address": "results/pets/a"}
    with pytest.raises(formats.DiskFull) as raised:
        store.write("results/pets/a", spec, {name: CONTENTS[name]})
    message = str(raised.value)
    assert message.startswith(f"results/pets/a/{name}: disk full, ")
    assert "\n" not in message and "make room and rerun" in message
    if name in ("x.parquet", "x.safetensors"):
        missing = int(message.split("at least ")[1].split(" bytes")[0].replace(",", ""))
        assert 3 * MEBIBYTE <= missing <= 4 * MEBIBYTE + 4096
    assert list(Path("results/pets/a").iterdir()) == []


def test_a_job_on_a_full_disk_keeps_complete_members_and_resumes(small_disk):
    def function(inputs, spec, context):
        def make(member, context):
            numbers = torch.zeros(1 if member == "cat" else MEBIBYTE // 2)
            return {"a.safetensors": {"x": numbers}}

        return make

    files = ("a.safetensors",)
    with pytest.raises(formats.DiskFull, match=r"pets/pets-\w+/dog/a.safetensors: disk full"):
        produce(function, "cat", "dog", files=files)
    assert path("cat", "a.safetensors").exists()
    assert [p.name for p in path("dog").parent.iterdir()] == []
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    before = path("cat", "a.safetensors").stat().st_ino
    produce(function, "cat", "dog", files=files)
    assert path("cat", "a.safetensors").stat().st_ino == before
    assert store.read_tensors(path("dog", "a.safetensors"))["x"].shape == (MEBIBYTE // 2,)


def test_a_checkpoint_on_a_full_disk_leaves_the_last_one(small_disk):
    checkpoint = Checkpoint(Context(work=Path("results/.work/x"), checkpoint_seconds=0))
    checkpoint.save({"x": torch.ones(4)}, {"done": 1})
    with pytest.raises(formats.DiskFull, match=r"state\.safetensors: disk full, at least"):
        checkpoint.save({"x": torch.zeros(MEBIBYTE)}, {"done": 2})
    assert checkpoint.load()[1] == {"done": 1}
    assert [p.name for p in checkpoint.path.parent.iterdir()] == [
        "seconds.json",
        checkpoint.path.name,
    ]


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL, ids=repr)
@pytest.mark.parametrize("name", ["x.json", "x.safetensors", "x.parquet"])
def test_the_error_of_every_library_is_recognised(empty, monkeypatch, error, name):
    def write(temporary, content):
        temporary.write_bytes(b"half")
        raise error

    monkeypatch.setitem(formats.WRITERS, Path(name).suffix, write)
    with pytest.raises(formats.DiskFull, match=f"a/{name}: disk full, .* make room"):
        store.write("results/pets/a", {"address": "results/pets/a"}, {name: CONTENTS[name]})
    assert list(Path("results/pets/a").iterdir()) == []


@given(st.integers(1, 133).filter(lambda n: n not in (errno.ENOSPC, errno.EDQUOT)))
def test_no_other_error_of_the_system_is_a_full_disk(number):
    assert not formats.is_full(OSError(number, os.strerror(number)))
    assert not formats.is_full(
        SafetensorError(f"I/O error: {os.strerror(number)} (os error {number})")
    )


def raising(error):
    def run():
        raise error

    return run


CASES = {
    "disk": (OSError(errno.ENOSPC, "full", None, None, None), "disk full"),
    "permission": (PermissionError(errno.EACCES, "denied", "results/x"), "results/x: not writable"),
    "memory": (MemoryError(), "memory is full; lower batch_size of the protocol"),
    "numpy": (np._core._exceptions._ArrayMemoryError((9**9,), np.dtype("f8")), "memory is full"),
    "cuda": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        "memory of the GPU is full; lower batch_size of the protocol",
    ),
    "cublas": (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "memory of the GPU is full"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_of_the_machine_is_one_line_of_a_failed_job(empty, capfd, case):
    error, message = CASES[case]
    with pytest.raises(SystemExit) as ended:
        jobs._report_errors(raising(error), "batch_size of the protocol")
    assert ended.value.code == 1
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("error: ") and message in line


def test_other_exceptions_keep_their_trace(empty):
    with pytest.raises(RuntimeError, match="a bug"):
        jobs._report_errors(raising(RuntimeError("a bug")))


def test_torch_reports_full_memory_as_recognised(empty, capfd):
    with pytest.raises(SystemExit):
        jobs._report_errors(lambda: torch.empty(2**55))
    assert "memory is full" in capfd.readouterr().out
