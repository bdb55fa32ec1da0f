"""What several test files share: a tiny config, and all its artifacts made without Snakemake."""

import contextlib
import copy
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings
from stillhouse.artifacts import jobs
from stillhouse.config import load as configs
from stillhouse.data import class_images, index
from stillhouse.diffusion import decode, latents, train_denoiser
from stillhouse.evaluation import soft_labels, students
from stillhouse.methods import distilled
from stillhouse.methods.common import features
from stillhouse.methods.d3hr import inversion, samples
from stillhouse.methods.d4m import prototypes
from stillhouse.methods.ddps import class_scores, clusters
from stillhouse.methods.rded import patch_scores
from stillhouse.planning import plan
from stillhouse.training import teachers

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("stillhouse", deadline=None)
settings.load_profile("stillhouse")

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


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that has a call of a module's function end as Ctrl-C does, but once."""

    def at(module, name, number):
        calls, function = [], getattr(module, name)

        def interrupted(*arguments, **options):
            calls.append(arguments)
            if len(calls) == number:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, interrupted)
        return calls

    return at


# Stage → the function that computes it, and its files, as the rules name them.
STAGES = {
    "index": (index.index, ["index.parquet"]),
    "images": (class_images.images, ["images.parquet"]),
    "teacher": (teachers.teacher, ["model.safetensors", "metrics.json"]),
    "denoiser": (train_denoiser.denoiser, ["denoiser.json"]),
    "latents": (latents.latents, ["latents.safetensors"]),
    "inversion": (inversion.inversion, ["inversion.safetensors"]),
    "samples": (samples.samples, ["samples.safetensors"]),
    "prototypes": (prototypes.prototypes, ["prototypes.safetensors"]),
    "decode": (decode.decode, ["images.parquet"]),
    "patch_scores": (patch_scores.patch_scores, ["scores.parquet"]),
    "class_scores": (class_scores.class_scores, ["scores.parquet"]),
    "features": (features.features, ["features.parquet"]),
    "clusters": (clusters.clusters, ["clusters.parquet"]),
    "distilled": (distilled.distilled, ["images.parquet"]),
    "labels": (soft_labels.labels, ["labels.parquet"]),
    "students": (students.students, ["cell.json"]),
}


def _inputs(artifact, classes, files):
    """Return the files that an artifact is made from, by the names of the rules' inputs."""
    found = dict(files or {})
    for name, part in artifact.upstream.items():
        file = STAGES[part.stage][1][0]
        if part.stage in plan.PER_CLASS:
            found[name] = {c: part.at(class_id=c).directory / file for c in classes}
        else:
            if name[-1:].isdigit():
                found.setdefault(f"{name[:-1]}s", []).append(part.directory / file)
            else:
                found[name] = part.directory / file
    if artifact.stage == "students":
        part, shown = artifact.ancestor("images"), artifact.upstream["distilled"]
        classes = shown.settings["classes"]
        found["images"] = {c: part.at(class_id=c).directory / "images.parquet" for c in classes}
    return found


def _make(artifact, members=(), files=None, **resources):
    """Make an artifact as its rule would, and return its folder.

    Parameters
    ----------
    artifact : stillhouse.artifacts.addresses.Artifact
    members : list, optional
        Classes or student seeds of a family; then a list of folders is returned.
    files : dict, optional
        Files of a Parquet source by split, or the weights that a teacher loads.
    resources
        For `stillhouse.artifacts.jobs.produce`.
    """
    stage, names = STAGES[artifact.stage]
    key = "class_id" if artifact.stage in plan.PER_CLASS else "student_seed"
    wanted = {m: artifact.at(**{key: m}) for m in members} or {None: artifact}
    inputs = _inputs(artifact, artifact.settings.get("classes", members), files)
    job = [(one.spec(), member, names) for member, one in wanted.items()]
    jobs.produce(stage, inputs, job, {"device": "cpu", "min_accuracy": "0", **resources})
    return [one.directory for one in wanted.values()] if members else artifact.directory


def _make_all(wanted):
    """Make all artifacts of a plan as the rules would, in their order."""
    for stage in STAGES:
        for artifact in wanted.single.get(stage, {}).values():
            _make(artifact)
        if stage in plan.PER_CLASS:
            for family, classes in wanted.blocks(stage):
                _make(family.artifact, classes)
    for family in wanted.families["students"].values():
        _make(family.artifact, family.members)


@pytest.fixture(scope="session")
def make():
    """Return a function that makes one artifact, its upstream being there."""
    return _make


@pytest.fixture(scope="session")
def make_all():
    """Return a function that makes all artifacts of a plan in the working directory."""
    return _make_all


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
