"""What several test files share: a tiny config, and all its artifacts made without Snakemake."""

import contextlib
import copy
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from stillhouse import config as configs
from stillhouse import distilled, images, jobs, labels, plan, rded, students, teachers

TINY = {
    "sources": {"digits": {"kind": "digits"}},
    "datasets": {"three": {"source": "digits", "classes": ["0", "1", "2"], "resolution": 8}},
    "teachers": {
        "t": {
            "arch": "convnet1",
            "width": 4,
            "norm": "instance",
            "epochs": 2,
            "batch_size": 64,
            "optimizer": "adamw",
            "learning_rate": 0.01,
            "min_accuracy": 0,
        }
    },
    "methods": {
        "random": {"kind": "random"},
        "rded": {"kind": "rded", "teacher": "t", "crops_per_image": 2, "images_per_class": 20},
    },
    "labels": {
        "soft": {"kind": "soft", "teachers": ["t"], "epochs_stored": 2, "views": {"flip": 0.0}},
    },
    "protocols": {
        "soft": {"labels": "soft", "epochs": 2, "batch_size": 4},
        "hard": {"labels": "hard", "epochs": 2, "batch_size": 4},
    },
    "students": {"s": {"arch": "convnet1", "width": 4, "norm": "batch"}},
    "experiments": {
        "x": {
            "dataset": "three",
            "methods": ["random", "rded"],
            "ipc": [1, 2],
            "students": ["s"],
            "protocols": ["soft", "hard"],
            "seeds": [0, 1],
        }
    },
}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Compute with one thread: the sums of floats depend on how many there are."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny():
    """Return a small config of digits, free to be changed."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def planned():
    """Return a function from a config to its plan."""
    return lambda config: plan.build(configs.complete(config, "tiny.yaml"))


@pytest.fixture(scope="session")
def make_all():
    """Return a function that makes all artifacts of a plan in the working directory."""
    return _make_all


def _make_all(wanted, resources=None, files=None):
    """Make what the rules would make, in the rules' order.

    Parameters
    ----------
    wanted : stillhouse.plan.Plan
    resources : dict, optional
        For `stillhouse.jobs.produce`.
    files : dict, optional
        Files of Parquet sources, by split.
    """

    def one(stage, inputs, artifact, *names):
        job = [(artifact.spec(), None, list(names))]
        jobs.produce(stage, inputs(artifact), job, {"device": "cpu", **(resources or {})})

    def many(stage, inputs, family, members, key, name):
        job = [(family.at(**{key: m}).spec(), m, [name]) for m in members]
        jobs.produce(stage, inputs, job, {"device": "cpu", **(resources or {})})

    def of(artifact, stage, name):
        parts = artifact.upstream.values()
        return [part.directory / name for part in parts if part.stage == stage]

    def of_classes(artifact, classes=None):
        classes = classes or artifact.settings["classes"]
        parts = {k: v for k, v in artifact.upstream.items() if v.stage in plan.PER_CLASS}
        return {
            name: [part.at(class_id=c).directory / plan.PER_CLASS[part.stage] for c in classes]
            for name, part in parts.items()
        }

    def for_labels(artifact):
        return {
            "images": of(artifact, "distilled", "images.parquet"),
            "teachers": of(artifact, "teacher", "model.safetensors"),
        }

    for artifact in wanted.single["index"].values():
        one(images.index, lambda a: files or {}, artifact, "index.parquet")
    for family, classes in wanted.blocks("images"):
        inputs = {**(files or {}), "index": of(family.artifact, "index", "index.parquet")}
        many(images.images, inputs, family.artifact, classes, "class_id", "images.parquet")
    for artifact in wanted.single.get("teacher", {}).values():
        bars = [t.get("min_accuracy", 0) for t in wanted.given[artifact.name]]
        resources = {**(resources or {}), "min_accuracy": str(max(bars))}
        one(teachers.teacher, of_classes, artifact, "model.safetensors", "metrics.json")
    for family, classes in wanted.blocks("patch_scores"):
        inputs = of_classes(family.artifact, classes)
        inputs["teacher"] = of(family.artifact, "teacher", "model.safetensors")
        many(rded.patch_scores, inputs, family.artifact, classes, "class_id", "scores.parquet")
    for artifact in wanted.single["distilled"].values():
        one(distilled.distilled, of_classes, artifact, "images.parquet")
    for artifact in wanted.single.get("labels", {}).values():
        one(labels.labels, for_labels, artifact, "labels.parquet")
    for family in wanted.families["students"].values():
        artifact = family.artifact
        inputs = for_labels(artifact) | of_classes(artifact.upstream["distilled"])
        inputs["set"] = of(artifact, "distilled", "images.parquet")
        inputs["labels"] = of(artifact, "labels", "labels.parquet")
        many(students.students, inputs, artifact, family.members, "student_seed", "cell.json")


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory, planned):
    """Make everything of the tiny config once; return its folder and plan. Not to be changed."""
    folder = tmp_path_factory.mktemp("kitchen")
    wanted = planned(TINY)
    with contextlib.chdir(folder):
        _make_all(wanted)
    return SimpleNamespace(folder=folder, plan=wanted)


@pytest.fixture
def made(kitchen, tmp_path, monkeypatch):
    """Work in a copy of the tiny config's results; return the plan."""
    shutil.copytree(kitchen.folder / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return kitchen.plan


@pytest.fixture
def in_kitchen(kitchen, monkeypatch):
    """Work among the tiny config's results without changing them; return the plan."""
    monkeypatch.chdir(kitchen.folder)
    return kitchen.plan


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def aged():
    """Return a function that gives a file another time of change, however coarse the clock is."""

    def age(path):
        state = os.stat(path)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 10**9))

    return age
