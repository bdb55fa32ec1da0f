import os
import subprocess
import sys

import pytest
import torch
from stillhouse.artifacts import context
from stillhouse.artifacts.context import Context, device_name
from stillhouse.errors import StillhouseError


@pytest.fixture
def no_gpu(monkeypatch):
    """Make torch report no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_without_a_gpu_auto_is_the_cpu(no_gpu, device):
    assert Context(device=device).torch_device() == torch.device("cpu")


@pytest.mark.parametrize(("device", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_does_not_exist_is_an_error(no_gpu, monkeypatch, device, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    message = f"compute.device: '{device}' is missing, torch detects {count} GPUs on this machine; "
    with pytest.raises(StillhouseError, match=message):
        Context(device=device).torch_device()


def test_the_name_of_a_cpu_has_the_number_of_threads(no_gpu):
    assert device_name(Context()).endswith(", 1 thread")


def test_processes_have_a_gpu_each(no_gpu, monkeypatch, empty):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(context, "_exact_cuda", lambda: None)
    context._free_gpus.cache_clear()
    devices = Context(device="auto", processes=2).torch_devices()
    assert devices == [torch.device("cuda", 0), torch.device("cuda", 1)]
    # Places of both GPUs are taken, as if by two jobs of one GPU each.
    assert context._free_gpus(3, 1) == [2]
    assert sorted(context._free_gpus(3, 3)) == [0, 1, 2]
    with pytest.raises(StillhouseError, match=r"compute.processes: must be at most 3, .*not 4"):
        Context(device="cuda", processes=4).torch_devices()
    for held in context._held:
        held.release()
    context._free_gpus.cache_clear()
    assert Context(processes=2).torch_devices() == [torch.device("cpu")] * 2


def test_jobs_at_once_take_a_gpu_each_then_share_them_evenly(empty):
    code = (
        "import sys; from stillhouse.artifacts import context; "
        "print(*context._free_gpus(2, 1), *context._free_gpus(2, 1), flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = []
    # Both are in use by the third job.
    for expected in ("0 0", "1 1", "0 0", "1 1"):
        processes.append(
            subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=empty, **pipes)
        )
        assert processes[-1].stdout.readline().strip() == expected
    for process in processes:
        process.communicate("")
