"""Jobs in other processes: killed, waiting, with limited threads."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stillhouse.artifacts import jobs, store

from tests.artifacts.local_stages import (
    FILES,
    PETS,
    Recorder,
    path,
    produce,
    python,
    work_folder,
)

# A module with stages of two files, for jobs in other processes.
MODULE = """
import os, sys, time
from pathlib import Path
from stillhouse.artifacts import jobs
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.stages import Stage

def files_of(member):
    return {"a.json": {"member": member}, "b.json": [member]}

def killed(inputs, spec, context):
    def make(member, context):
        for name in ("one", "two"):
            (context.work / name).mkdir(parents=True)
        if member == "dog":
            os._exit(9)
        return files_of(member)
    return make

def killed_in_removal(work, **options):
    (work / "one").rmdir()
    os._exit(9)

def slow(inputs, spec, context):
    def make(member, context):
        with open("computed", "a") as stream:
            stream.write("x")
        Path("started").touch()
        while not Path("finish").exists():
            time.sleep(0.02)
        return files_of(member)
    return make

def threads(inputs, spec, context):
    import numpy, sklearn, torch
    from threadpoolctl import threadpool_info
    torch.ones(64, 64) @ torch.ones(64, 64)
    numpy.ones((64, 64)) @ numpy.ones((64, 64))
    def make(member, context):
        pools = {f"{p['user_api']} {p['filepath']}": p["num_threads"] for p in threadpool_info()}
        return {"a.json": {**pools, "torch": torch.get_num_threads()}, "b.json": []}
    return make

def stage(function):
    return Stage("pets", 1, ("a.json", "b.json"), f"module:{function}", "pets", "class_id")

def produce(function, *members):
    artifact = Artifact(stage(function), "pets", {"revision": 1})
    jobs.produce(stage(function), {}, artifact.spec(), members, {"torch_threads": 1})
"""


@pytest.fixture
def module(empty):
    """Write the module for jobs in other processes into the working directory."""
    Path("module.py").write_text(MODULE)


def test_stale_checkpoints_of_complete_artifacts_are_removed_by_the_next_job(module):
    """A job was killed between writing and removal; other checkpoints are not removed."""
    code = "import module, sys; module.jobs.shutil.rmtree = module.killed_in_removal\n"
    for class_id in ("dog", "cat"):
        assert python(code + "module.produce('killed', sys.argv[1])", class_id).returncode == 9
    works = {class_id: work_folder(PETS.member_spec(class_id)) for class_id in ("cat", "dog")}
    assert {entry.name for entry in works["cat"].iterdir()} == {"two", "artifact.json"}
    produce(Recorder(), "hen")
    left = {works["dog"], works["dog"].with_suffix(".lock")}
    assert set(Path("results/.work").iterdir()) == left
    assert {entry.name for entry in works["dog"].iterdir()} == {"one", "two", "artifact.json"}


def test_stale_checkpoints_are_removed_by_a_job_with_nothing_to_compute(empty):
    produce(Recorder(), "cat")
    spec = PETS.member_spec("cat")
    work_folder(spec).mkdir()
    (work_folder(spec) / jobs.ARTIFACT).write_text(json.dumps([spec, FILES]))
    produce(Recorder(), "cat")
    assert list(Path("results/.work").iterdir()) == []


def test_a_second_process_waits_for_the_first(module):
    command = [sys.executable, "-c", "import module; module.produce('slow', 'cat')"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.getcwd()])}
    options = {"stdout": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen(command, **options)]
    while not Path("started").exists():
        assert processes[0].poll() is None
        time.sleep(0.02)
    processes.append(subprocess.Popen(command, **options))
    waiting = processes[1].stdout.readline()
    assert waiting.endswith(".lock: held by another job; waiting for its end\n")
    Path("finish").touch()
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert Path("computed").read_text() == "x"
    assert f"{PETS.directory}/cat: computed in " in outputs[0]
    assert outputs[1].splitlines() == [f"{PETS.directory}/cat: complete"]


def test_jobs_that_write_members_of_an_artifact_at_once_share_its_lineage(module):
    code = "import module, sys; module.produce('killed', *sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, os.getcwd()])}
    blocks = [[f"{block}{number}" for number in range(5)] for block in "abc"]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, *members], env=environment)
        for members in blocks
    ]
    assert [process.wait(600) for process in processes] == [0] * 3
    for member in [member for members in blocks for member in members]:
        assert store.is_complete(path(member).parent, PETS.member_spec(member), FILES)
    assert [p.name for p in PETS.directory.iterdir() if p.is_file()] == ["lineage.json"]


def test_libraries_that_a_stage_imports_compute_with_its_threads(module):
    environment = {name: "" for name in jobs.THREAD_VARIABLES}
    code = f"import os; os.environ.update({environment}); import module; "
    done = python(code + "module.produce('threads', 'cat')", capture_output=True)
    assert done.returncode == 0, done.stderr
    threads = store.read_json(path("cat"))
    assert {name.split()[0] for name in threads} >= {"blas", "openmp", "torch"}
    assert set(threads.values()) == {1}


def test_libraries_that_are_loaded_compute_with_the_given_threads(empty):
    code = """
import numpy, sklearn, torch
from stillhouse.artifacts.jobs import limit_threads
from threadpoolctl import threadpool_info
for count in (2, 1):
    limit_threads(count)
    print(*{torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())})
"""
    done = python(code, capture_output=True)
    assert done.stdout.split()[-1] == "1", done.stderr
    if os.cpu_count() > 1:
        assert done.stdout.splitlines() == ["2", "1"]
