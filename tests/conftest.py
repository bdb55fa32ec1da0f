"""Shared fixtures: a tiny config, and its artifacts computed without Snakemake."""

import contextlib
import copy
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import settings
from stillhouse.artifacts import jobs
from stillhouse.config import load
from stillhouse.planning import plan
from stillhouse.planning.inputs import job_inputs

# No deadline, since the time of an example depends on the load of the machine.
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
    """Compute with one thread, since sums of floats depend on the number of threads."""
    jobs.limit_threads(1)


@pytest.fixture
def tiny():
    """Return a copy of a small config of digits."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def planned():
    """Return a function from a config to its plan."""
    return lambda config: plan.build(load.complete(config, "tiny.yaml"))


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that makes one call of a module's function end as by Ctrl-C."""

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


def _make(artifact, members=(), files=None, **resources):
    """Compute an artifact like its rule, and return its folder.

    Parameters
    ----------
    artifact : stillhouse.artifacts.addresses.Artifact
    members : list, optional
        Classes, batches or seeds; then a list of folders is returned.
    files : dict, optional
        Files of a Parquet source by split, or the weights that a teacher loads.
    resources
        For `stillhouse.artifacts.jobs.produce`.
    """
    spec = artifact.spec()
    inputs = {**job_inputs(spec, members), **(files or {})}
    resources = {"device": "cpu", "min_accuracy": "0", "torch_threads": 1, **resources}
    jobs.produce(artifact.stage, inputs, spec, members, resources)
    folders = [Path(artifact.member_file(member)).parent for member in members]
    return folders if members else artifact.directory


def _make_all(wanted, alone=False):
    """Compute all artifacts of a plan like the rules, upstream first.

    Parameters
    ----------
    wanted : stillhouse.planning.plan.Plan
    alone : bool, optional
        Compute each member by a job of its own, the last one first.
    """
    done = set()

    def visit(artifact):
        if artifact.directory in done:
            return
        done.add(artifact.directory)
        for _, part in artifact.parts():
            visit(part)
        members = list(wanted.family(artifact).members) if artifact.stage.member else []
        for part in [[member] for member in reversed(members)] if alone and members else [members]:
            _make(artifact, part)

    for by_name in wanted.artifacts.values():
        for artifact in by_name.values():
            visit(artifact)
    for by_name in wanted.families.values():
        for family in by_name.values():
            visit(family.artifact)


@pytest.fixture(scope="session")
def make():
    """Return a function that computes one artifact, whose upstream is complete."""
    return _make


@pytest.fixture(scope="session")
def make_all():
    """Return a function that computes all artifacts of a plan in the working directory."""
    return _make_all


@pytest.fixture(scope="session")
def tiny_results(tmp_path_factory, planned):
    """Compute all artifacts of the tiny config once; return folder and plan; read only."""
    folder = tmp_path_factory.mktemp("tiny_results")
    wanted = planned(TINY)
    with contextlib.chdir(folder):
        _make_all(wanted)
    return SimpleNamespace(folder=folder, plan=wanted)


@pytest.fixture
def made(tiny_results, tmp_path, monkeypatch):
    """Change into a copy of the tiny config's results; return the plan."""
    shutil.copytree(tiny_results.folder / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tiny_results.plan


@pytest.fixture
def in_tiny_results(tiny_results, monkeypatch):
    """Change into the tiny config's results, which must not be modified; return the plan."""
    monkeypatch.chdir(tiny_results.folder)
    return tiny_results.plan


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Change into an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def aged():
    """Return a function that changes the modification time of a file, for any clock."""

    def age(path):
        state = os.stat(path)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - 10**9))

    return age
