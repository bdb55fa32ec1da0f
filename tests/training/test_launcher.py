"""Jobs of several processes."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from stillhouse.artifacts import jobs, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError
from stillhouse.training import launcher

SECONDS = 300


@pytest.fixture
def importable(monkeypatch):
    """Add the import path of this process to that of others."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


def local(function):
    """Return an artifact of a stage of `launched_stages`."""
    function = f"tests.training.launched_stages:{function}"
    return Artifact(Stage("pets", 1, ("a.json",), function, "pets", distributed=True), "pets", {})


def test_two_processes_make_the_teacher_of_one(made, tiny, planned, make, importable, capfd):
    tiny["teachers"]["t"] |= {"norm": "batch", "optimizer": "sgd"}
    (artifact,) = planned(tiny).artifacts["teacher"].values()
    folder = make(artifact)
    wanted = store.read_json(folder / "metrics.json")
    weights = store.read_tensors(folder / "model.safetensors")
    shutil.rmtree(folder)
    capfd.readouterr()
    make(artifact, processes=2)
    actual = store.read_json(folder / "metrics.json")
    losses, wanted_losses = ([row.pop("loss") for row in m["curve"]] for m in (actual, wanted))
    assert losses == pytest.approx(wanted_losses, rel=1e-5)
    assert actual["accuracy"] == pytest.approx(wanted["accuracy"], abs=1)
    assert actual["curve"] == wanted["curve"]
    tensors = store.read_tensors(folder / "model.safetensors")
    assert tensors.keys() == weights.keys()
    assert max((tensors[name] - weights[name]).abs().max() for name in weights) < 1e-3
    assert ", 2 × 1 thread" in store.read_timing(folder)["device"]
    printed = capfd.readouterr().out.splitlines()
    assert [line.split(" in ")[0] for line in printed] == [
        "teacher 0 epoch: 2/2",
        f"{folder}: computed",
    ]
    assert {p.name for p in folder.iterdir()} == {*artifact.stage.files, "spec.json", "timing.json"}
    assert not list(Path("results/.work").iterdir())


def test_an_error_of_one_process_is_the_error_of_the_job(make, importable, empty, capfd):
    artifact = local("failing")
    with pytest.raises(SystemExit):
        jobs._report_errors(lambda: make(artifact, processes=2))
    assert capfd.readouterr() == ("error: x.parquet: missing; write it\n", "")
    assert not artifact.directory.exists()


def test_a_process_that_the_system_has_killed_is_the_error_of_the_job(make, importable, empty):
    with pytest.raises(StillhouseError, match=r"^process 1 ended with status -9; if memory is"):
        make(local("killed"), processes=2)


def test_no_process_outlives_a_killed_job(make, importable, empty):
    artifact = local("waiting")
    context = multiprocessing.get_context("fork")
    job = context.Process(target=make, args=(artifact,), kwargs={"processes": 2})
    job.start()
    until(lambda: Path("started-0").exists() and Path("started-1").exists())
    processes = psutil.Process(job.pid).children(recursive=True)
    assert len(processes) >= 2
    job.kill()
    job.join(SECONDS)
    assert job.exitcode == -signal.SIGKILL
    _, alive = psutil.wait_procs(processes, 20)
    assert not alive


def until(condition):
    """Wait for a condition."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Process:
    """Stands for a process of `launcher._run`, which is asked for its status again and again."""

    def __init__(self, *statuses):
        self.statuses, self.stdin = list(statuses), io.BytesIO()

    def poll(self):
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def kill(self):
        self.statuses = [self.poll()]

    wait = kill


@pytest.mark.parametrize(
    ("first", "second", "failed"),
    [
        ((None, 0), (None, None, 0), {}),
        ((None, None, 1), (None, 0), {0: 1}),
        # The first fails after it was asked, the second because of it before it is asked.
        ((None, -9), (1,), {0: -9, 1: 1}),
        # The second fails after it was asked, when the first has ended.
        ((0,), (None, 1), {1: 1}),
        ((None,), (None, 1), {1: 1}),
    ],
)
def test_processes_are_waited_for_until_all_end_or_one_fails(
    tmp_path, monkeypatch, first, second, failed
):
    processes = [Process(*first), Process(*second)]
    started = iter(processes)
    monkeypatch.setattr(launcher.subprocess, "Popen", lambda *_, **__: next(started))
    monkeypatch.setattr(launcher.time, "sleep", lambda _: None)
    assert launcher._run(tmp_path, 2) == failed
    assert all(process.stdin.closed for process in processes)


def failed(folder, *reports, status=1):
    """Return the exception of a job whose processes have written error reports."""
    for rank, (seconds, line, trace) in enumerate(reports):
        content = {"time": seconds, "line": line, "trace": trace}
        (folder / f"error-{rank}.json").write_text(json.dumps(content))
    return launcher._fault(folder, {1: status}, "batch_size")


def test_the_first_error_is_reported_and_not_what_follows_from_it(tmp_path):
    error = failed(tmp_path, (2.0, "", "closed by peer"), (1.0, "a: wrong; b", "trace"))
    assert isinstance(error, StillhouseError) and str(error) == "a: wrong; b"
    # An error of the user before a bug.
    error = failed(tmp_path, (2.0, "a: wrong; b", "trace"), (1.0, "", "closed by peer"))
    assert str(error) == "a: wrong; b"
    error = failed(tmp_path, (2.0, "", "closed by peer"), (1.0, "", "Traceback: bug"))
    assert isinstance(error, RuntimeError) and str(error).endswith("Traceback: bug")


def test_a_process_that_ended_without_a_report_is_named(tmp_path):
    expected = "process 1 ended with status 1; see the log; if the disk is full, make room"
    assert str(failed(tmp_path)) == expected
    expected = "process 1 ended with status -9; if memory is full, lower batch_size, or compute"
    assert str(failed(tmp_path, status=-9)) == f"{expected}.processes"
    # Process 0, which waited for it, has written a report.
    assert str(failed(tmp_path, (2.0, "", "closed by peer"), status=-9)) == f"{expected}.processes"


def test_processes_but_the_first_store_no_checkpoints(tmp_path):
    from stillhouse.artifacts.checkpoints import Checkpoint
    from stillhouse.training import worker

    resources = {"work": str(tmp_path), "keys": [], "checkpoint_seconds": 0.0}
    job = {"resources": resources, "devices": ["cuda:3", "cuda:1"]}
    contexts = [worker._context(job, rank) for rank in (0, 1)]
    assert [context.device for context in contexts] == ["cuda:3", "cuda:1"]
    assert isinstance(contexts[0], Context) and contexts[0].work == tmp_path
    assert [Checkpoint(one).due() for one in contexts] == [True, False]
    assert [Checkpoint(one).due(last=True) for one in contexts] == [True, False]
