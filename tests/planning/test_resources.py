"""What jobs ask a cluster for: from the work of their artifacts, which stages declare."""

import copy
import math
from dataclasses import fields
from pathlib import Path

import pytest
from stillhouse.artifacts.stages import Work
from stillhouse.methods.registry import stages
from stillhouse.planning import resources
from stillhouse.planning.plan import of_file
from stillhouse.planning.sizes import Sizes
from stillhouse.planning.work import VIEW_BYTES, logit_bytes

from tests.conftest import TINY
from tests.planning.configs import build, put

ROOT = Path(__file__).parents[2]
CPU = resources.cpu(1)
PRESETS_FOLDER = ROOT / "workflow/presets"
LOADED = {"arch": "resnet18_modified", "weights": {"file": "x", "sha256": "0" * 64}}
PRESETS = ("d3hr-imagenet", "ddps-ablation", "ruo-cifar10", "gvbsm-cifar10", "digits-matching")


def artifacts(plan):
    """Yield all artifacts of a plan, also those that are stored per member."""
    for by_name in plan.families.values():
        yield from (family.artifact for family in by_name.values())
    for by_path in plan.artifacts.values():
        yield from by_path.values()


def planned(*edits):
    """Return the plan of the tiny config with some edits."""
    config = copy.deepcopy(TINY)
    for path, value in edits:
        put(config, path, value)
    return build(config)


def first(plan, stage):
    """Return the first artifact of a stage."""
    return next(a for a in artifacts(plan) if a.stage.name == stage)


def work(path, value, stage):
    """Return the work of the first artifact of a stage in the tiny config with one edit."""
    plan = planned((path, value))
    return Sizes(plan.config).work(first(plan, stage))


@pytest.mark.parametrize("name", ["config", *PRESETS])
def test_every_stage_has_a_work_of_finite_size(name):
    plan = of_file(ROOT / "config.yaml" if name == "config" else PRESETS_FOLDER / f"{name}.yaml")
    sizes = Sizes(plan.config)
    for artifact in artifacts(plan):
        own = sizes.work(artifact)
        assert all(0 <= getattr(own, f.name) < math.inf for f in fields(Work)), artifact
        assert (own == Work()) == (artifact.stage.name == "dataset"), artifact


def test_every_stage_but_a_list_of_files_declares_its_work():
    assert {stage.name for stage in stages().values() if not stage.work} == {"dataset"}


@pytest.mark.parametrize(
    ("path", "few", "many", "stage", "field"),
    [
        ("teachers.t.epochs", 2, 4, "teacher", "multiply_adds"),
        ("teachers.t.epochs", 2, 4, "teacher", "steps"),
        ("protocols.soft.epochs", 2, 4, "students", "multiply_adds"),
        ("labels.soft.epochs_stored", 2, 4, "labels", "stored_bytes"),
        ("methods.rded.crops_per_image", 2, 4, "patch_scores", "multiply_adds"),
        ("methods.rded.images_per_class", 20, 40, "patch_scores", "pixels"),
        ("experiments.x.ipc", [1], [2], "distilled", "held_bytes"),
    ],
)
def test_twice_the_settings_are_twice_the_work(path, few, many, stage, field):
    smaller, larger = (getattr(work(path, value, stage), field) for value in (few, many))
    assert larger == pytest.approx(2 * smaller)


@pytest.mark.parametrize("stage", ["teacher", "students"])
def test_a_large_split_is_not_held_in_memory(stage, monkeypatch):
    least = work("datasets.three.resolution", 8, stage).held_bytes
    assert work("datasets.three.resolution", 16, stage).held_bytes > 3 * least
    monkeypatch.setattr("stillhouse.planning.sizes.MEMORY_BYTES", 1000)
    assert work("datasets.three.resolution", 16, stage).held_bytes < least


def test_bytes_of_labels_follow_from_encoding_and_views():
    encodings = ("float16", "int8", "top1")
    sizes = [work("labels.soft.encoding", one, "labels").stored_bytes for one in encodings]
    views = 2 * 3  # epochs, images of the first set
    logits = [logit_bytes(one, 3) for one in encodings]
    assert sizes == [views * (VIEW_BYTES + n) for n in logits]
    assert work("labels.soft.views_stored", False, "labels").stored_bytes == views * logits[0]


def test_memory_and_time_grow_with_the_resolution():
    small, large = (work("datasets.three.resolution", side, "teacher") for side in (8, 256))
    assert resources.seconds(large, CPU) > 10 * resources.seconds(small, CPU)
    few, many = (resources.asked(one, 1, CPU) for one in (small, large))
    assert many["mem_mb"] > few["mem_mb"]


def test_a_job_of_more_members_asks_for_more_time_and_the_same_memory():
    own = Work(multiply_adds=6e12)
    one, ten = (resources.asked(own, n, CPU) for n in (1, 10))
    assert ten["mem_mb"] == one["mem_mb"]
    assert ten["runtime"] - resources.START_MINUTES == 10 * (
        one["runtime"] - resources.START_MINUTES
    )


def test_another_attempt_asks_for_more_memory_and_for_time_up_to_the_limit():
    own = Work(multiply_adds=1e14, held_bytes=1e9)
    first, second = (resources.asked(own, 1, CPU, attempt=n) for n in (1, 2))
    assert second == {name: 2 * value for name, value in first.items()}
    long = Work(multiply_adds=1e18)
    assert resources.asked(long, 1, CPU)["runtime"] == 24 * 60
    assert resources.asked(long, 1, CPU, attempt=2, max_hours=7.5)["runtime"] == 450


def test_tensors_in_a_gpu_are_not_in_the_memory_that_a_job_asks_for():
    own = Work(activation_bytes=1e12)
    assert resources.memory_mb(own, resources.GPU) == resources.memory_mb(Work(), resources.GPU)
    assert resources.memory_mb(own, CPU) > resources.memory_mb(Work(), CPU) + 9e5


def test_processes_share_the_time_of_networks_and_multiply_what_they_hold():
    own = Work(multiply_adds=1e14, steps=10, pixels=1e6, held_bytes=1e9, activation_bytes=1e9)
    one, four = (resources.seconds(own, CPU, n) for n in (1, 4))
    read = own.pixels * CPU.pixel_seconds
    assert four - read == pytest.approx((one - read) / 4)
    few = Work(multiply_adds=1.0, steps=10)
    assert resources.seconds(few, CPU, 4) == resources.seconds(few, CPU)
    one, four = (resources.memory_mb(own, CPU, n_processes=n) for n in (1, 4))
    held = CPU.libraries_mb + 1e9 / resources.MIB
    assert four == pytest.approx(one + 3 * held + resources.LIBRARIES_MB)
    asked = [resources.asked(own, 1, CPU, n_processes=n) for n in (1, 4)]
    assert asked[0]["runtime"] > asked[1]["runtime"] and asked[0]["mem_mb"] < asked[1]["mem_mb"]


@pytest.mark.parametrize(
    ("path", "value", "stage", "count"),
    [
        ("teachers.t.epochs", 2, "teacher", 4),
        ("teachers.t", LOADED, "teacher", 1),
        ("protocols.soft.epochs", 2, "students", 1),
    ],
)
def test_trainings_of_teachers_and_denoisers_have_several_processes(path, value, stage, count):
    plan = planned(("compute.processes", 4), (path, value))
    requests = resources.Requests(plan.config, "cuda")
    assert requests.processes(first(plan, stage)) == count
    assert {s.name for s in stages().values() if s.distributed} == {"teacher", "denoiser"}


def test_a_plan_that_trains_nothing_has_one_process_per_job():
    plan = planned(("compute.processes", 4))
    requests = resources.Requests(plan.config, "cuda")
    assert requests.most_processes(plan) == 4
    plan.artifacts["teacher"].clear()
    assert requests.most_processes(plan) == 1
