"""Members of artifacts are computed once, with timing and checkpoints."""

import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from stillhouse.artifacts import formats, jobs, store
from stillhouse.artifacts.addresses import Artifact

from tests.artifacts.local_stages import PETS, Recorder, path, produce, stage_of, work_folder


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


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.unlink(), lambda path: path.write_text("{}")],
    ids=["missing", "altered"],
)
def test_a_damaged_lineage_is_written_again_and_no_member_is_recomputed(empty, damage):
    produce(Recorder(), "cat", "dog")
    lineage = PETS.directory / "lineage.json"
    content = lineage.read_bytes()
    damage(lineage)
    assert produce(Recorder(), "cat").computed == []
    assert lineage.read_bytes() == content
    store.check([path("cat"), path("dog")])


def test_members_with_a_complete_spec_of_their_own_stay_complete(empty):
    """Earlier versions wrote no lineage.json."""
    spec = PETS.member_spec("cat")
    store.write(spec["address"], spec, {"a.json": {"member": "cat"}, "b.json": ["cat"]})
    assert produce(Recorder(), "cat", "dog").computed == ["dog"]
    assert store.read_spec(spec["address"])["settings"] == PETS.settings


def test_resources_reach_the_stage_and_not_the_spec(empty):
    resources = {"device": "cpu", "batch_size": 3, "checkpoint_seconds": 0.5, "min_accuracy": "90"}
    (context,) = produce(Recorder(), "cat", **resources).contexts
    assert (context.batch_size, context.checkpoint_seconds) == (3, 0.5)
    assert context.extra == {"min_accuracy": "90"}
    assert "min_accuracy" not in path("cat", "spec.json").read_text()
    assert "min_accuracy" not in (PETS.directory / "lineage.json").read_text()


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
    # The last job's own seconds are measured by the clock.
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
