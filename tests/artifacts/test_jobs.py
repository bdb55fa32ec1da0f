import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from stillhouse.artifacts import formats, jobs, store
from stillhouse.artifacts.addresses import Artifact, digest
from stillhouse.errors import StillhouseError

FAMILY = Artifact("images", "pets", {"revision": 1})
PACKAGE = str(Path(jobs.__file__).parents[2])


class Stage:
    """A stage that remembers what it was asked for."""

    def __init__(self, fails_at="", seconds=0.0):
        self.opened, self.made, self.contexts = [], [], []
        self.fails_at, self.seconds = fails_at, seconds

    def __call__(self, inputs, spec, context):
        self.opened.append((inputs, spec))
        return self.make

    def make(self, key, context):
        time.sleep(self.seconds)
        self.made.append(key)
        self.contexts.append(context)
        if key == self.fails_at:
            raise RuntimeError("no")
        return {"a.json": {"key": key}, "b.json": [key]}


def members(*classes):
    artifacts = [FAMILY.at(class_id=class_id) for class_id in classes]
    return [(a.spec(), c, ["a.json", "b.json"]) for a, c in zip(artifacts, classes, strict=True)]


def made(class_id, name="a.json"):
    return FAMILY.at(class_id=class_id).directory / name


def test_only_what_is_not_whole_is_made(empty):
    first = Stage()
    jobs.produce(first, {"x": [Path("in")]}, members("cat", "dog"), {})
    assert first.made == ["cat", "dog"]
    assert first.contexts[0].keys == ("cat", "dog")
    assert first.opened == [({"x": [Path("in")]}, members("cat")[0][0])]
    second = Stage()
    jobs.produce(second, {}, members("cat", "hen", "dog", "pig"), {})
    assert second.made == ["hen", "pig"]
    assert second.contexts[0].keys == ("hen", "pig")
    assert len(second.opened) == 1
    assert store.read_json(made("pig")) == {"key": "pig"}


def test_nothing_is_opened_when_all_is_whole(empty):
    jobs.produce(Stage(), {}, members("cat"), {})
    again = Stage()
    jobs.produce(again, {}, members("cat"), {})
    assert again.opened == again.made == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("{}"),
        lambda path: path.unlink(),
        lambda path: path.with_name("b.json").unlink(),
        lambda path: path.with_name("spec.json").write_text("{}"),
        lambda path: path.with_name("spec.json").unlink(),
    ],
    ids=["altered", "gone", "other file gone", "spec altered", "spec gone"],
)
def test_what_is_damaged_is_made_again(empty, aged, damage):
    jobs.produce(Stage(), {}, members("cat", "dog"), {})
    before = made("cat").read_bytes()
    damage(made("dog"))
    again = Stage()
    jobs.produce(again, {}, members("cat", "dog"), {})
    assert again.made == ["dog"]
    assert made("cat").read_bytes() == before
    store.check([made("dog"), made("dog", "b.json")])


def test_what_was_made_before_a_failure_is_kept(empty):
    with pytest.raises(RuntimeError):
        jobs.produce(Stage(fails_at="dog"), {}, members("cat", "dog", "hen"), {})
    assert made("cat").exists()
    assert not made("dog").exists()
    again = Stage()
    jobs.produce(again, {}, members("cat", "dog", "hen"), {})
    assert again.made == ["dog", "hen"]


def test_resources_reach_the_stage_and_not_the_spec(empty):
    stage = Stage()
    resources = {"device": "cpu", "batch_size": 3, "checkpoint_seconds": 0.5, "min_accuracy": "90"}
    jobs.produce(stage, {}, members("cat"), resources)
    (context,) = stage.contexts
    assert (context.batch_size, context.checkpoint_seconds) == (3, 0.5)
    assert context.extra == {"min_accuracy": "90"}
    assert "min_accuracy" not in made("cat", "spec.json").read_text()


def test_the_size_of_a_forward_pass_follows_the_device(empty, monkeypatch):
    monkeypatch.setattr(jobs, "device_name", lambda context: context.device)
    for kind, size in (("cpu", 64), ("cuda", 256)):
        device = SimpleNamespace(type=kind)
        monkeypatch.setattr(jobs.Context, "torch_device", lambda self, device=device: device)
        stage = Stage()
        resources = {"device": "auto", "batch_size": "auto"}
        jobs.produce(stage, {}, members(kind), resources)
        assert stage.contexts[0].batch_size == size


def test_timing_lies_beside(empty):
    jobs.produce(Stage(seconds=0.05), {}, members("cat"), {})
    timing = store.read_timing(made("cat").parent)
    assert 0.05 <= timing["seconds"] < 5
    assert {"finished", "host", "device", "versions", "commit"} <= timing.keys()
    assert timing["versions"]["numpy"]
    assert timing["finished"].endswith("+00:00")


def test_opening_is_shared_between_members(empty):
    class Slow(Stage):
        def __call__(self, inputs, spec, context):
            time.sleep(0.8)
            return super().__call__(inputs, spec, context)

    jobs.produce(Slow(), {}, members("cat", "dog"), {})
    for class_id in ("cat", "dog"):
        assert 0.4 <= store.read_timing(made(class_id).parent)["seconds"] < 0.75


def test_row_groups_made_while_writing_are_timed(empty):
    import pyarrow as pa

    def slow():
        time.sleep(0.1)
        yield pa.table({"n": [1]})

    def stage(inputs, spec, context):
        schema = pa.schema([("n", pa.int64())])
        return lambda key, context: {"t.parquet": formats.RowGroups(schema, slow())}

    jobs.produce(stage, {}, [(FAMILY.at(class_id="cat").spec(), "cat", ["t.parquet"])], {})
    assert store.read_timing(made("cat").parent)["seconds"] >= 0.1


class Resumed(Stage):
    """A stage with a side file, killed in its first tries."""

    def __init__(self, noted, killed):
        super().__init__()
        self.noted, self.killed = noted, killed

    def make(self, key, context):
        context.work.mkdir(parents=True, exist_ok=True)
        (context.work / "state").write_text("half")
        jobs.note_seconds(context, self.noted)
        if self.killed:
            raise KeyboardInterrupt
        return super().make(key, context)


def test_seconds_of_earlier_tries_are_added_once(empty):
    for noted in (100.0, 20.0):
        with pytest.raises(KeyboardInterrupt):
            jobs.produce(Resumed(noted, killed=True), {}, members("cat"), {})
        assert list(Path("results/.work").glob("*/state"))
    # What the last try notes on its way is its own time, measured by the clock anyway.
    jobs.produce(Resumed(1000.0, killed=False), {}, members("cat"), {})
    assert 120 <= store.read_timing(made("cat").parent)["seconds"] < 121


def test_side_files_go_when_the_artifact_is_there(empty):
    stage = Resumed(1.0, killed=False)
    jobs.produce(stage, {}, members("cat", "dog"), {})
    assert stage.contexts[0].work != stage.contexts[1].work
    assert list(Path("results/.work").iterdir()) == []


def test_each_address_has_its_own_side_files(empty):
    def work(artifact):
        stage = Stage()
        jobs.produce(stage, {}, [(artifact.spec(), None, ["a.json", "b.json"])], {})
        return stage.contexts[0].work

    settings = Artifact("images", "pets", {"revision": 2})
    folders = [FAMILY, FAMILY.at(class_id="a"), FAMILY.at(class_id="b"), settings]
    assert len({work(artifact) for artifact in folders}) == 4


KILLED = """
import os, sys
sys.path.insert(0, {package!r})
from stillhouse.artifacts import jobs
from stillhouse.artifacts.addresses import Artifact

def make(key, context):
    for name in ("one", "two"):
        (context.work / name).mkdir(parents=True)
    if key == "dog":
        os._exit(9)
    return {{"a.json": [key]}}

def killed(work, **options):
    (work / "one").rmdir()
    os._exit(9)

jobs.shutil.rmtree = killed
spec = Artifact("images", "pets", {{"revision": 1}}).at(class_id={class_id!r}).spec()
jobs.produce(lambda *shared: make, {{}}, [(spec, {class_id!r}, ["a.json"])], {{}})
"""


def test_side_files_of_what_is_whole_go_with_the_next_job(empty):
    """Whoever made it was killed right after; those of what is unfinished stay."""
    for class_id in ("dog", "cat"):
        code = KILLED.format(package=PACKAGE, class_id=class_id)
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    works = {
        name: Path("results/.work") / f"images-{digest(FAMILY.at(class_id=name).spec())}"
        for name in ("cat", "dog")
    }
    assert [path.name for path in works["cat"].iterdir()] == ["two"]
    jobs.produce(Stage(), {}, members("hen"), {})
    left = {works["dog"], works["dog"].with_suffix(".lock")}
    assert set(Path("results/.work").iterdir()) == left
    assert len(list(works["dog"].iterdir())) == 2


WAITING = """
import sys, time
sys.path.insert(0, {package!r})
from pathlib import Path
from stillhouse.artifacts import jobs
from stillhouse.artifacts.addresses import Artifact

def stage(inputs, spec, context):
    def make(key, context):
        with open("made", "a") as stream:
            stream.write("x")
        Path("started").touch()
        time.sleep(0.7)
        return {{"a.json": [key]}}
    return make

spec = Artifact("images", "pets", {{"revision": 1}}).at(class_id="cat").spec()
jobs.produce(stage, {{}}, [(spec, "cat", ["a.json"])], {{}})
"""


def test_a_second_process_waits_for_the_first(empty):
    code = WAITING.format(package=PACKAGE)
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)]
    while not Path("started").exists():
        assert processes[0].poll() is None
        time.sleep(0.02)
    processes.append(
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    )
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert Path("made").read_text() == "x"
    assert "made in" in outputs[0]
    assert "whole already" in outputs[1]


class Named(dict):
    """Named values as in a Snakemake script's job object."""

    def __getattr__(self, name):
        return self[name]


class Files(Named):
    def __iter__(self):
        for value in self.values():
            yield from [value] if isinstance(value, str) else value


def script(spec, outputs, member=None, inputs=None):
    params = Named(spec=spec) | ({"member": member} if member else {})
    return SimpleNamespace(
        input=Files(inputs or {}),
        output=Files(outputs),
        params=Named(params),
        resources=Named(torch_threads=1, checkpoint_seconds="0.5", batch_size=4),
        log=["job.log"],
    )


@pytest.fixture
def unredirected(monkeypatch):
    """Leave pytest's own standard output alone."""
    monkeypatch.setattr(jobs, "_redirect", lambda log: None)


def test_a_job_is_read_from_its_rule(empty, unredirected):
    outputs = {"images": [str(made("a/b")), str(made("a/b", "b.json")), str(made("dog"))]}
    stage = Stage()
    job = script(FAMILY.spec(), outputs, "class_id", {"one": "x", "many": ["y", "z"]})
    jobs.run(stage, job)
    assert stage.made == ["a/b", "dog"]
    assert stage.contexts[0].checkpoint_seconds == 0.5
    assert stage.opened[0][0] == {"one": [Path("x")], "many": [Path("y"), Path("z")]}
    assert store.is_whole(made("a/b").parent, FAMILY.at(class_id="a/b").spec(), ["a.json"])


def test_seeds_are_read_from_folders(empty, unredirected):
    family = Artifact("students", "s", {})
    outputs = [family.at(student_seed=seed).file("a.json") for seed in (0, 12, -3)]
    stage = Stage()
    jobs.run(stage, script(family.spec(), {"cells": outputs}, "student_seed"))
    assert stage.made == [0, 12, -3]
    assert store.read_spec(Path(outputs[2]).parent)["keys"] == {"student_seed": -3}


def test_batches_are_read_from_folders(empty, unredirected):
    keys = {"ipc": 1, "seed": -3}
    family = Artifact("synthesis", "s", {}, keys=keys)
    outputs = {
        name: [family.at(batch=number).file(f"{name}.json") for number in (2, 0, 12)]
        for name in ("a", "b")
    }
    stage = Stage()
    jobs.run(stage, script(family.spec(), outputs, "batch"))
    assert stage.made == [2, 0, 12]
    folder = Path(outputs["a"][2]).parent
    assert folder.name == "ipc1-seed-3-batch12"
    assert store.read_spec(folder)["keys"] == {**keys, "batch": 12}
    assert store.is_whole(folder, family.at(batch=12).spec(), ["a.json", "b.json"])


def test_a_users_error_is_one_line_and_a_failed_job(empty, unredirected, capfd):
    def stage(inputs, spec, context):
        raise StillhouseError("x.yaml: is wrong; write it right")

    with pytest.raises(SystemExit) as caught:
        jobs.run(stage, script(FAMILY.spec(), {"images": [str(made("cat"))]}, "class_id"))
    assert caught.value.code == 1
    assert capfd.readouterr().out == "error: x.yaml: is wrong; write it right\n"


LOGGED = """
import os, sys
sys.path.insert(0, {package!r})
from types import SimpleNamespace
from stillhouse.artifacts import jobs

class Named(dict):
    __getattr__ = dict.__getitem__

def function(inputs, params, outputs):
    print("from Python")
    os.system("echo from a shell; echo trouble >&2")
    outputs["out"].write_text(str([params["title"], *map(str, inputs["set"])]))

job = SimpleNamespace(
    input=Named(set="in.txt"), output=Named(out="out.txt"), params=Named(title="T"), resources={{}},
    log=["logs/new/job.log"],
)
jobs.run_for_people(function, job)
"""


def test_everything_said_is_in_the_log(empty):
    code = LOGGED.format(package=PACKAGE)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
    lines = Path("logs/new/job.log").read_text().splitlines()
    assert lines[0].startswith("--- 20")
    assert set(lines[1:]) == {
        "from Python",
        "from a shell",
        "trouble",
    }
    assert Path("out.txt").read_text() == "['T', 'in.txt']"


def test_seconds_that_cannot_be_read_count_as_none(empty):
    folder = Path("results/.work")
    stage = Stage()
    jobs.produce(stage, {}, members("cat"), {})
    work = folder / stage.contexts[0].work.name
    work.mkdir()
    (work / "seconds.json").write_text(json.dumps(7.0)[:0])
    made("cat").unlink()
    jobs.produce(Stage(), {}, members("cat"), {})
    assert store.read_timing(made("cat").parent)["seconds"] < 5


def test_jobs_at_once_take_a_gpu_each(empty):
    code = (
        "import sys; from stillhouse.artifacts import jobs; "
        "print(jobs._free_gpu(2), jobs._free_gpu(2), flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = []
    # The third finds both taken and shares one.
    for wanted in (["0 0"], ["1 1"], ["0 0", "1 1"]):
        running.append(
            subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=empty, **pipes)
        )
        assert running[-1].stdout.readline().strip() in wanted
    for process in running:
        process.communicate("")
