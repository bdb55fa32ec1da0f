"""Runs on a real Slurm of this machine: for a release, see ``make test-all``."""

import contextlib
import json
import os
import re
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from one_machine_slurm import Slurm, missing, run
from snakemake_runs import ROOT, Folder

from tests.workflow.conftest import tiny

pytestmark = [
    *(pytest.mark.workflow, pytest.mark.slow),
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.xdist_group("slurm"),
]
PROFILE = ("--workflow-profile", ROOT / "profiles/slurm")
# A machine with two CPUs a node, whose jobs end soon.
HERE = ("--max-threads", "2", "--slurm-init-seconds-before-status-checks", "5")


@pytest.fixture(scope="module")
def slurm():
    """Start Slurm."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Slurm(Path(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def settings():
    """Return a config of one method, whose teacher and students train for some seconds."""
    config = tiny()
    config["compute"]["checkpoint_seconds"] = 0
    config["teachers"]["small"]["epochs"] = 150
    config["methods"] = {"random": {"kind": "random"}}
    config["protocols"] = {"soft": {"labels": "soft", "epochs": 200}}
    config["experiments"]["tiny"] |= {"methods": ["random"], "protocols": ["soft"]}
    return config


@pytest.fixture(scope="module")
def local(settings, tmp_path_factory):
    """Return a finished local run."""
    folder = Folder(tmp_path_factory.mktemp("local"))
    folder.configure(settings)
    folder.make()
    return folder


@pytest.fixture
def remote(settings, tmp_path):
    """Return an empty folder for a run on Slurm."""
    folder = Folder(tmp_path / "remote")
    folder.configure(settings)
    return folder


def computed(folder):
    """Return how often each artifact was computed, by the logs of jobs."""
    text = "".join(path.read_text() for path in (folder / "results/logs").rglob("*.log"))
    addresses = re.findall(r"^(results/\S+): computed in", text, re.M)
    return {address: addresses.count(address) for address in addresses}


def stage_process(folder, stage):
    """Return the process that computes a stage's job, on whatever node."""
    logs = f"{folder / 'results/logs' / stage}/"
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.readlink(f"/proc/{process.pid}/fd/1").startswith(logs):
                return process
    time.sleep(0.2)
    return None


def test_a_run_whose_controller_was_killed_ends_in_the_table_of_a_local_run(
    slurm, local, remote, start
):
    running = start(remote, *PROFILE, *HERE, cores=None)
    running.until_checkpoint("teacher/*", "state.safetensors")
    process = stage_process(remote, "teacher")
    process.suspend()
    running.process.kill()
    running.process.wait()
    assert slurm.jobs("teacher")
    remote.make("--unlock")
    second = start(remote, *PROFILE, *HERE, cores=None)
    second.until(lambda: len(slurm.jobs("teacher")) == 2)
    process.resume()
    assert second.wait() == 0, second.console()
    remote.assert_same(local)
    assert set(computed(remote).values()) == {1}
    logs = list((remote / ".snakemake/slurm_logs").glob("rule_*/*/*.log"))
    assert len(logs) == len(slurm.ended())


def test_a_training_of_two_processes_has_two_gpus_of_one_job(slurm, settings, local, tmp_path):
    """Slurm has two GPUs per node, which this machine need not have: the job computes without."""
    settings = {**settings, "compute": {**settings["compute"], "processes": 2}}
    remote = Folder(tmp_path / "remote")
    remote.configure(settings)
    before = set(slurm.ended())
    gpus = ("--set-resources", "teacher:gpu=2")
    remote.make(*PROFILE, *HERE, *gpus, "--", *remote.outputs("teacher"), cores=None)
    states = {job: run("scontrol", "show", "job", job) for job in set(slurm.ended()) - before}
    (trained,) = [text for text in states.values() if "rule_teacher" in text]
    assert "NumNodes=1 NumCPUs=2 " in trained and "TresPerJob=gres:gpu:2\n" in trained
    assert sum("gres:gpu" in text for text in states.values()) == 1
    folder, wanted = (one.one("teacher/*") for one in (remote, local))
    losses = [
        [row["loss"] for row in json.loads((path / "metrics.json").read_text())["curve"]]
        for path in (folder, wanted)
    ]
    # Later on, AdamW enlarges rounding.
    assert losses[0][:20] == pytest.approx(losses[1][:20], rel=1e-3)
    assert "2 × " in json.loads((folder / "timing.json").read_text())["device"]


def test_jobs_over_their_memory_or_time_and_cancelled_ones_continue(slurm, local, remote, start):
    before = set(slurm.ended())
    running = start(
        *(remote, *PROFILE, *HERE, "--set-resources", "teacher:mem_mb=450*attempt*attempt"),
        *("students:runtime=min(attempt*attempt,30)", "--", "all"),
        cores=None,
    )
    # The student of the first seed ends; that of the second is held until its time is over.
    running.until_checkpoint("students/*/seed1", "state.safetensors")
    process = running.until(lambda: stage_process(remote, "students"))
    process.suspend()
    running.until(lambda: not process.is_running())
    # The next attempt is held until it is cancelled.
    process = running.until(lambda: stage_process(remote, "students"))
    process.suspend()
    (job,) = slurm.jobs("students")
    run("scancel", job)
    assert running.wait() == 0, running.console()
    remote.assert_same(local)
    states = [one["JobState"] for job, one in slurm.ended().items() if job not in before]
    assert {"TIMEOUT", "CANCELLED", "COMPLETED"} <= set(states)
    assert states.count("COMPLETED") < len(states) - 2  # one was killed for its memory
    assert "resumes after epoch" in remote.logs("students")
    assert set(computed(remote).values()) == {1}
