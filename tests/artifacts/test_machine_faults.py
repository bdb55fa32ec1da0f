"""A full disk, limits, permissions and full memory: one line, nothing half-made, and a resume."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from stillhouse.artifacts import formats, jobs, machine_faults, store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context
from stillhouse.errors import StillhouseError

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
    with pytest.raises(machine_faults.DiskFull) as raised:
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
    with pytest.raises(
        machine_faults.DiskFull, match=r"pets/pets-\w+/dog/a.safetensors: disk full"
    ):
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
    with pytest.raises(machine_faults.DiskFull, match=r"state\.safetensors: disk full, at least"):
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
    with pytest.raises(machine_faults.DiskFull, match=f"a/{name}: disk full, .* make room"):
        store.write("results/pets/a", {"address": "results/pets/a"}, {name: CONTENTS[name]})
    assert list(Path("results/pets/a").iterdir()) == []


@given(st.integers(1, 133))
def test_errors_of_the_system_are_recognised_by_their_number(number):
    text = os.strerror(number)
    errors = [
        OSError(number, text),
        OSError(f"[Errno {number}] Error writing bytes to file. Detail: [errno {number}] {text}"),
        SafetensorError(f"Error while serializing: I/O error: {text} (os error {number})"),
    ]
    for error in errors:
        fault = machine_faults.of_file(error, Path("results/x"), 5)
        full = number in (errno.ENOSPC, errno.EDQUOT)
        assert isinstance(fault, machine_faults.DiskFull) == full
        assert (fault is None) == (not full and number not in machine_faults.SYSTEM)
        assert fault is None or (str(fault).startswith("results/x: ") and "; " in str(fault))


def test_an_error_of_the_user_while_a_file_is_written_keeps_its_words(empty):
    error = StillhouseError("/data/x.png: cannot be read ([Errno 5] Input/output error)")
    groups = formats.RowGroups(pa.schema([("x", pa.float32())]), (raising(error)() for _ in "x"))
    with pytest.raises(StillhouseError, match=r"^/data/x\.png: cannot be read"):
        formats.save_table(Path("x.parquet"), groups.schema, groups.groups)


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, torch
from stillhouse.artifacts import jobs, store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context

numbers = np.zeros(2**18, np.float32)
contents = {
    "x.parquet": pa.table({"x": np.random.default_rng(0).random(2**18)}),
    "x.safetensors": {"x": torch.from_numpy(numbers)},
    "x.json": numbers.tolist(),
}
checkpoint = Checkpoint(Context(work=Path("results/.work/x"), checkpoint_seconds=0))
resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, resource.RLIM_INFINITY))
def run():
    if sys.argv[1] == "state.safetensors":
        checkpoint.save({"x": torch.from_numpy(numbers)}, {})
    files = {sys.argv[1]: contents[sys.argv[1]]}
    store.write("results/pets/a", {"address": "results/pets/a"}, files)
jobs._report_errors(run)
"""


@pytest.mark.parametrize(
    "name", [*sorted(CONTENTS.keys() - {"groups.parquet"}), "state.safetensors"]
)
def test_a_limit_of_file_sizes_is_one_line_and_leaves_nothing(empty, name):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, name], capture_output=True, text=True, check=False
    )
    (line,) = done.stdout.splitlines()
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert line.startswith("error: results/") and f"/{name}: larger than the limit of" in line
    assert not list(empty.rglob("*.tmp"))


FOLDERS = {
    "a file": lambda: Path("results").touch(),
    "a broken link": lambda: Path("results").symlink_to("/nowhere/results"),
    "a loop": lambda: Path("results").symlink_to("results"),
    "a file below": lambda: (Path("results").mkdir(), Path("results/.work").touch()),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_results_that_are_no_folder_are_one_line(empty, capfd, name):
    FOLDERS[name]()
    with pytest.raises(SystemExit):
        jobs._report_errors(lambda: produce(lambda *arguments: None, "cat"))
    assert re.fullmatch(r"error: results(/\.work)?: a .*; \w.*\n", capfd.readouterr().out)


def test_a_job_on_a_read_only_file_system_is_one_line(small_disk, capfd):
    produce(lambda *arguments: lambda member, context: {"a.parquet": pa.table({"x": [1]})}, "cat")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    capfd.readouterr()
    with pytest.raises(SystemExit):
        jobs._report_errors(lambda: produce(lambda *arguments: None, "cat", "dog"))
    *_, line = capfd.readouterr().out.splitlines()
    assert re.match(r"error: .*results/\.work.*: read-only file system; mount it", line)


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
    "fork": (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory is full; lower batch_size"),
    "allocation": (RuntimeError("std::bad_alloc"), "memory is full; lower batch_size"),
    "threads": (RuntimeError("can't start new thread"), "no more threads can be started; raise"),
    "files": (OSError(errno.EMFILE, "Too many", "x"), "x: too many open files; raise the limit"),
    "disk error": (OSError(errno.EIO, "Input/output error", "x"), "x: the disk cannot be read"),
    "network": (OSError(errno.ESTALE, "Stale file handle", "x"), "x: the file system was mounted"),
    "old GPU": (
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        "the GPU cannot be used (CUDA error: no kernel image is available for execution on the ",
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
