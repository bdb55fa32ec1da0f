import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from stillhouse.artifacts import formats, jobs, manifests, store
from stillhouse.artifacts.addresses import Artifact, digest
from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError

FILES = ("a.json", "b.json")


@dataclass(frozen=True)
class LocalStage(Stage):
    """A stage whose function is an object instead of a name."""

    local: object = None

    def load(self):
        return self.local


def stage_of(function, files=FILES, member="class_id"):
    return LocalStage("pets", 1, files, "", "pets", member, local=function)


PETS = Artifact(stage_of(None), "pets", {"revision": 1})


class Recorder:
    """A stage function that records its calls."""

    def __init__(self, fails_at="", seconds=0.0):
        self.loaded, self.computed, self.contexts = [], [], []
        self.fails_at, self.seconds = fails_at, seconds

    def __call__(self, inputs, spec, context):
        self.loaded.append((inputs, spec))
        return self.make

    def make(self, member, context):
        time.sleep(self.seconds)
        self.computed.append(member)
        self.contexts.append(context)
        if member == self.fails_at:
            raise RuntimeError("no")
        return {"a.json": {"member": member}, "b.json": [member]}


def produce(function, *members, inputs=None, artifact=PETS, files=FILES, **resources):
    """Compute members as a job does; return the function."""
    stage = stage_of(function, files, artifact.stage.member)
    jobs.produce(stage, inputs or {}, artifact.spec(), members, resources)
    return function


def path(class_id, name="a.json"):
    return Path(PETS.member_file(class_id)).with_name(name)


def work_folder(spec):
    return Path("results/.work") / f"pets-{digest(spec)}"


def python(code, *arguments, **options):
    """Run code in a process that imports what this one can, and modules of its folder."""
    paths = os.pathsep.join([*sys.path, os.getcwd()])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, text=True, check=False, **options)


def test_only_missing_members_are_computed(empty):
    first = produce(Recorder(), "cat", "dog", inputs={"x": [Path("in")]})
    assert first.computed == ["cat", "dog"]
    assert first.contexts[0].keys == ("cat", "dog")
    assert first.loaded == [({"x": [Path("in")]}, PETS.member_spec("cat"))]
    second = produce(Recorder(), "cat", "hen", "dog", "pig")
    assert second.computed == ["hen", "pig"]
    assert second.contexts[0].keys == ("hen", "pig")
    assert len(second.loaded) == 1
    assert store.read_json(path("pig")) == {"member": "pig"}


def test_an_artifact_stored_as_one_is_computed_once(empty):
    artifact = Artifact(stage_of(None, member=""), "pets", {})
    first, second = (produce(Recorder(), artifact=artifact) for _ in range(2))
    assert (first.computed, second.computed) == ([None], [])
    assert first.loaded == [({}, artifact.spec())]
    assert store.read_json(artifact.file) == {"member": None}


def test_nothing_is_loaded_when_all_members_are_complete(empty, capsys):
    produce(Recorder(), "cat")
    again = produce(Recorder(), "cat")
    assert again.loaded == again.computed == []
    assert capsys.readouterr().out.endswith(f"{PETS.directory}/cat: complete\n")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("{}"),
        lambda path: path.unlink(),
        lambda path: path.with_name("b.json").unlink(),
        lambda path: path.with_name("spec.json").write_text("{}"),
        lambda path: path.with_name("spec.json").unlink(),
    ],
    ids=["altered", "missing", "other file missing", "spec altered", "spec missing"],
)
def test_a_damaged_member_is_recomputed(empty, damage):
    produce(Recorder(), "cat", "dog")
    before = path("cat").read_bytes()
    damage(path("dog"))
    assert produce(Recorder(), "cat", "dog").computed == ["dog"]
    assert path("cat").read_bytes() == before
    store.check([path("dog"), path("dog", "b.json")])


def test_resources_reach_the_stage_and_not_the_spec(empty):
    resources = {"device": "cpu", "batch_size": 3, "checkpoint_seconds": 0.5, "min_accuracy": "90"}
    (context,) = produce(Recorder(), "cat", **resources).contexts
    assert (context.batch_size, context.checkpoint_seconds) == (3, 0.5)
    assert context.extra == {"min_accuracy": "90"}
    assert "min_accuracy" not in path("cat", "spec.json").read_text()


def test_the_batch_size_follows_the_device(empty, monkeypatch):
    monkeypatch.setattr(jobs, "device_name", lambda context: context.device)
    for kind, size in (("cpu", 64), ("cuda", 256)):
        device = SimpleNamespace(type=kind)
        monkeypatch.setattr(jobs.Context, "torch_device", lambda self, device=device: device)
        recorder = produce(Recorder(), kind, device="auto", batch_size="auto")
        assert recorder.contexts[0].batch_size == size


def test_the_timing_is_stored_beside_the_files(empty):
    produce(Recorder(seconds=0.05), "cat")
    timing = store.read_timing(path("cat").parent)
    assert 0.05 <= timing["seconds"] < 5
    assert {"finished", "host", "device", "versions", "commit"} <= timing.keys()
    assert timing["versions"]["numpy"]
    assert timing["finished"].endswith("+00:00")


def test_the_seconds_of_loading_are_shared_between_members(empty):
    class Slow(Recorder):
        def __call__(self, inputs, spec, context):
            time.sleep(0.6)
            return super().__call__(inputs, spec, context)

    produce(Slow(), "cat", "dog")
    for class_id in ("cat", "dog"):
        assert 0.3 <= store.read_timing(path(class_id).parent)["seconds"] < 0.58


def test_row_groups_computed_while_writing_are_timed(empty):
    schema = pa.schema([("n", pa.int64())])

    def slow():
        time.sleep(0.1)
        yield pa.table({"n": [1]})

    def stage(inputs, spec, context):
        return lambda member, context: {"t.parquet": formats.RowGroups(schema, slow())}

    produce(stage, "cat", files=("t.parquet",))
    assert store.read_timing(path("cat").parent)["seconds"] >= 0.1


class Resumed(Recorder):
    """A stage function with a checkpoint, killed in its first jobs."""

    def __init__(self, noted, killed):
        super().__init__()
        self.noted, self.killed = noted, killed

    def make(self, member, context):
        (context.work / "state").write_text("half")
        jobs.note_seconds(context, self.noted)
        if self.killed:
            raise KeyboardInterrupt
        return super().make(member, context)


def test_seconds_of_killed_jobs_are_added_once(empty):
    for noted in (100.0, 20.0):
        with pytest.raises(KeyboardInterrupt):
            produce(Resumed(noted, killed=True), "cat")
        assert list(Path("results/.work").glob("*/state"))
    # Seconds that the last job notes are its own, which the clock measures anyway.
    produce(Resumed(1000.0, killed=False), "cat")
    assert 120 <= store.read_timing(path("cat").parent)["seconds"] < 121


def test_unreadable_seconds_count_as_none(empty):
    work = work_folder(PETS.member_spec("cat"))
    work.mkdir(parents=True)
    (work / "seconds.json").write_text("")
    produce(Recorder(), "cat")
    assert store.read_timing(path("cat").parent)["seconds"] < 5


def test_checkpoints_are_removed_with_the_lock_when_a_member_is_complete(empty):
    contexts = produce(Resumed(1.0, killed=False), "cat", "dog").contexts
    folders = [work_folder(PETS.member_spec(class_id)) for class_id in ("cat", "dog")]
    assert [context.work for context in contexts] == folders
    assert list(Path("results/.work").iterdir()) == []


def test_each_address_has_its_own_checkpoints(empty):
    single = stage_of(None, member="")
    artifacts = [
        (PETS, ["a", "b"]),
        (Artifact(PETS.stage, "pets", {"revision": 2}), ["a"]),
        (Artifact(single, "pets", {"revision": 1}), []),
        (Artifact(single, "pets", {"revision": 1}, keys={"seed": 1}), []),
    ]
    folders = {
        context.work
        for artifact, members in artifacts
        for context in produce(Recorder(), *members, artifact=artifact).contexts
    }
    assert len(folders) == 5


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
        time.sleep(0.7)
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
    """A job was killed between writing and removal; the checkpoints of unfinished ones stay."""
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
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert Path("computed").read_text() == "x"
    assert f"{PETS.directory}/cat: computed in " in outputs[0]
    assert outputs[1] == f"{PETS.directory}/cat: complete\n"


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


class Named(dict):
    """Named values as in a Snakemake script's job object."""

    def __getattr__(self, name):
        return self[name]


MANIFEST = Path("results/manifests/pets/x/0000-abc.json")


def job_of(artifact, members=(), inputs=None, **resources):
    """Return a job object as a Snakemake script has it."""
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
    """Return a function that runs a job of some classes; standard output stays pytest's."""
    monkeypatch.setattr(jobs, "_redirect", lambda log: None)

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
    monkeypatch.setattr(jobs, "_redirect", lambda log: None)
    artifact = Artifact(stage_of(None, member=""), "pets", {})
    jobs.run_stage(job_of(artifact), stage_of(Recorder(), member=""), {})
    assert store.is_complete(artifact.directory, artifact.spec(), FILES)
    assert not Path("results/manifests").exists()


def test_inputs_are_those_of_the_planner_and_files_of_the_user(run):
    artifact = Artifact(PETS.stage, "pets", {}, {"index": PETS})
    recorder, inputs = Recorder(), {"index": Path("index.parquet")}
    declared = {"index": ["manifest.json"], "train": ["x", "y"], "weights": "z"}
    jobs.run_stage(job_of(artifact, ["cat"], declared), stage_of(recorder), inputs)
    ((found, spec),) = recorder.loaded
    assert found == {**inputs, "train": [Path("x"), Path("y")], "weights": [Path("z")]}
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


LOGGED = """
import os
from types import SimpleNamespace
from stillhouse.artifacts import jobs

class Named(dict):
    __getattr__ = dict.__getitem__

def function(inputs, params, outputs):
    print("from Python")
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
    assert set(lines[1:]) == {"from Python", "from a shell", "trouble"}
    assert Path("out.txt").read_text() == "['T', {'pets': 'data'}, 'in.txt']"
