import gc
from pathlib import Path
from types import SimpleNamespace

import pytest
from stillhouse.artifacts import jobs, manifests, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.errors import StillhouseError

from tests.artifacts.local_stages import FILES, PETS, Recorder, path, produce, python, stage_of


class Named(dict):
    """Named values as in a Snakemake script's job object."""

    def __getattr__(self, name):
        return self[name]


MANIFEST = Path("results/manifests/pets/x/0000-abc.json")


def job_of(artifact, members=(), inputs=None, **resources):
    """Return a job object like that of a Snakemake script."""
    params = {"spec": artifact.spec()} | ({"members": list(members)} if members else {})
    output = {"manifest": str(MANIFEST)} if members else {"file": artifact.file}
    resources = {"torch_threads": 1, "checkpoint_seconds": "0.5", "batch_size": 4, **resources}
    return SimpleNamespace(
        input=Named(inputs or {}),
        output=Named(output),
        params=Named(params),
        resources=Named(resources),
        log=["job.log"],
    )


@pytest.fixture
def run(empty, monkeypatch):
    """Return a function that runs a job of some classes; standard output remains pytest's."""
    monkeypatch.setattr(jobs, "_redirect", lambda log, label="": None)

    def run(function, *members, inputs=None, **options):
        jobs.run_stage(job_of(PETS, members, **options), stage_of(function), inputs or {})
        return function

    return run


def test_a_job_computes_the_members_of_its_params_and_lists_them(run):
    recorder = run(Recorder(), "a/b", "dog")
    assert recorder.computed == ["a/b", "dog"]
    assert recorder.contexts[0].checkpoint_seconds == 0.5
    assert store.is_complete(path("a/b").parent, PETS.member_spec("a/b"), FILES)
    members = manifests.read(MANIFEST)["members"]
    assert members == manifests.listing([path("a/b").parent, path("dog").parent])["members"]


def test_a_job_of_an_artifact_stored_as_one_writes_no_manifest(empty, monkeypatch):
    monkeypatch.setattr(jobs, "_redirect", lambda log, label="": None)
    artifact = Artifact(stage_of(None, member=""), "pets", {})
    jobs.run_stage(job_of(artifact), stage_of(Recorder(), member=""), {})
    assert store.is_complete(artifact.directory, artifact.spec(), FILES)
    assert not Path("results/manifests").exists()


def test_inputs_are_those_of_the_planner_and_files_of_the_user(run):
    artifact = Artifact(PETS.stage, "pets", {}, {"index": PETS})
    recorder, inputs = Recorder(), {"index": Path("index.parquet")}
    declared = {"index": ["manifest.json"], "train": ["x", "y"], "weights": "z"}
    jobs.run_stage(job_of(artifact, ["cat"], declared), stage_of(recorder), inputs)
    ((actual, spec),) = recorder.loaded
    assert actual == {**inputs, "train": [Path("x"), Path("y")], "weights": [Path("z")]}
    assert spec == artifact.member_spec("cat")


def test_folders_by_source_and_digest_reach_the_stage(run):
    recorder = run(
        Recorder(), "cat", source_roots='{"pets": "data"}', weight_folders='{"5": "dit"}'
    )
    (context,) = recorder.contexts
    assert (context.source_roots, context.weight_folders) == ({"pets": "data"}, {"5": "dit"})


def test_complete_members_survive_a_failed_job_and_are_not_recomputed(run):
    """The job of three members fails at the second."""
    with pytest.raises(RuntimeError):
        run(Recorder(fails_at="dog"), "cat", "dog", "hen")
    assert store.is_complete(path("cat").parent, PETS.member_spec("cat"), FILES)
    state = path("cat").stat()
    assert not path("dog").exists()
    assert not path("hen").exists()
    assert not MANIFEST.exists()
    assert run(Recorder(), "cat", "dog", "hen").computed == ["dog", "hen"]
    assert (path("cat").stat().st_mtime_ns, path("cat").stat().st_ino) == (
        state.st_mtime_ns,
        state.st_ino,
    )
    assert len(manifests.read(MANIFEST)["members"]) == 3


def test_results_do_not_depend_on_the_members_of_a_job(run):
    run(Recorder(), "cat", "dog")
    MANIFEST.unlink()
    recorder = run(Recorder(), "hen", "dog", "cat")
    assert recorder.computed == ["hen"]
    assert manifests.read(MANIFEST)["members"].keys() == {
        str(path(class_id).parent) for class_id in ("cat", "dog", "hen")
    }


def test_a_job_of_complete_members_imports_nothing_heavy(empty):
    produce(Recorder(), "cat")
    spec = {"spec": PETS.spec(), "members": ["cat"]}
    code = f"""
import sys
from types import SimpleNamespace
from stillhouse.artifacts import jobs
from stillhouse.artifacts.stages import Stage

class Named(dict):
    __getattr__ = dict.__getitem__

job = SimpleNamespace(
    input={{}}, output=Named(manifest={str(MANIFEST)!r}), params=Named({spec!r}),
    resources={{"torch_threads": 1, "batch_size": "auto", "device": "auto"}}, log=["job.log"],
)
stage = Stage("pets", 1, {FILES!r}, "stillhouse.nowhere:nothing", "pets", "class_id")
jobs.run_stage(job, stage, {{}})
print(sorted({{"torch", "numpy", "pyarrow", "sklearn"}} & sys.modules.keys()))
"""
    assert python(code).returncode == 0
    lines = Path("job.log").read_text().splitlines()
    assert lines[1:] == [f"{PETS.directory}/cat: complete", "[]"]
    assert MANIFEST.exists()


def fail(error):
    """Return a stage function that raises an error."""

    def stage(inputs, spec, context):
        raise error

    return stage


def test_a_users_error_is_one_line_and_a_failed_job(run, capfd):
    with pytest.raises(SystemExit) as caught:
        run(fail(StillhouseError("x.yaml: missing; write it")), "cat")
    assert caught.value.code == 1
    assert capfd.readouterr().out == "error: x.yaml: missing; write it\n"


def test_a_damaged_input_is_an_error_that_removes_the_manifests_listing_it(run, capfd):
    run(Recorder(), "cat", "dog")
    path("cat").write_text("{}")
    capfd.readouterr()

    def stage(inputs, spec, context):
        return store.read_json(path("cat"))

    with pytest.raises(SystemExit):
        jobs.run_stage(job_of(Artifact(PETS.stage, "x", {}), ["cat"]), stage_of(stage), {})
    message = capfd.readouterr().out
    assert message.startswith(f"error: {path('cat')}: ")
    assert message.endswith(f" (removed {MANIFEST}, which listed it)\n")
    assert message.count("\n") == 1
    assert not MANIFEST.exists()
    assert run(Recorder(), "cat", "dog").computed == ["cat"]


def test_a_process_of_one_job_ends_at_once_with_its_output_and_status(empty, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = """
import atexit, ctypes
from stillhouse.artifacts.jobs import process_of_one_job

class Cycle:
    def __init__(self):
        self.own = self
    def __del__(self):
        print("deallocated")

cycle = Cycle()
atexit.register(print, "at exit")
with process_of_one_job():
    {}
print("after")
"""
    last = ("print('x'); ctypes.CDLL(None).printf(b'C')", "raise SystemExit(3)", "1 / 0")
    done = [python(code.format(line), capture_output=True) for line in last]
    assert [one.returncode for one in done] == [0, 3, 1]
    assert done[0].stdout == "x\nat exit\nC"
    assert "ZeroDivisionError" in done[2].stderr


def test_garbage_is_collected_once_the_libraries_of_a_job_are_imported(run):
    enabled = []

    def stage(inputs, spec, context):
        enabled.append(gc.isenabled())
        return lambda member, context: {name: {} for name in FILES}

    gc.disable()
    try:
        run(stage, "cat")
    finally:
        gc.enable()
        gc.unfreeze()
    assert enabled == [True]


LOGGED = """
import gc
import os
from types import SimpleNamespace
from stillhouse.artifacts import jobs

class Named(dict):
    __getattr__ = dict.__getitem__

gc.disable()

def function(inputs, params, outputs):
    print("from Python", gc.isenabled())
    os.system("echo from a shell; echo trouble >&2")
    values = [params["title"], params["source_roots"], *map(str, inputs["set"])]
    outputs["out"].write_text(str(values))

job = SimpleNamespace(
    input=Named(set="in.txt"), output=Named(out="out.txt"), params=Named(title="T"),
    resources={"source_roots": '{"pets": "data"}'}, log=["logs/new/job.log"],
)
jobs.run_report(function, job)
"""


def test_all_output_of_a_report_job_is_in_its_log(empty):
    done = python(LOGGED, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = Path("logs/new/job.log").read_text().splitlines()
    assert lines[0].startswith("--- 20")
    assert set(lines[1:]) == {"from Python True", "from a shell", "trouble"}
    assert Path("out.txt").read_text() == "['T', {'pets': 'data'}, 'in.txt']"
