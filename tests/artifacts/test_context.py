import os
import subprocess
import sys

import pytest
import torch
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


def test_jobs_at_once_take_a_gpu_each_then_share_them_evenly(empty):
    code = (
        "import sys; from stillhouse.artifacts import context; "
        "print(context._free_gpu(2), context._free_gpu(2), flush=True); sys.stdin.read()"
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
