"""A tiny config for runs of Snakemake, one finished run of it, and copies of the run."""

import json
import shutil
import subprocess

import pytest
from filelock import FileLock
from snakemake_runs import Folder, Running


def tiny():
    """Return a config of three digits, three methods and two seeds, to be run in half a minute.

    The teacher has a separate dataset with one more class, so that it does not change with the
    classes. Students train long enough to be killed.
    """
    network = {"width": 16, "heads": 2, "layers": 1, "steps": 20, "batch_size": 16}
    autoencoder = {"channels": [8, 8], "norm_groups": 4, "latent_channels": 2}
    return {
        "compute": {"device": "cpu", "checkpoint_seconds": 0},
        "sources": {"digits": {"kind": "digits", "classes_per_block": 10, "holdout": 0.8}},
        "datasets": {
            "few": {"source": "digits", "classes": ["0", "1", "2"], "resolution": 8},
            "many": {"source": "digits", "classes": ["0", "1", "2", "3"], "resolution": 8},
        },
        "teachers": {
            "small": {
                "arch": "convnet1",
                "width": 4,
                "epochs": 10,
                "batch_size": 128,
                "dataset": "many",
                "min_accuracy": 0,
            }
        },
        "denoisers": {
            "small": {
                "kind": "dit",
                "resolution": 8,
                "train": {
                    "autoencoder": {**autoencoder, "steps": 10, "batch_size": 16},
                    "network": network,
                },
            }
        },
        "methods": {
            "random": {"kind": "random"},
            "rded": {
                "kind": "rded",
                "teacher": "small",
                "crops_per_image": 2,
                "images_per_class": 20,
            },
            "d4m": {"kind": "d4m", "denoiser": "small", "steps": 6, "guidance": 1.5},
            "edc": {
                **{"kind": "edc", "observers": ["small"], "initial": "random"},
                **{"iterations": 4, "batch_size": 2, "tile": 2},
            },
        },
        "labels": {"soft": {"kind": "soft", "teachers": ["small"], "epochs_stored": 60}},
        "protocols": {
            "soft": {"labels": "soft", "epochs": 60},
            "hard": {"labels": "hard", "epochs": 4},
        },
        "students": {"small": {"arch": "convnet1", "width": 4}},
        "experiments": {
            "tiny": {
                "dataset": "few",
                "methods": ["rded", "d4m", "edc"],
                "ipc": [1],
                "students": ["small"],
                "protocols": ["soft"],
                "seeds": [0, 1],
            }
        },
    }


def pytest_collection_modifyitems(items):
    """Order tests: with that of the finished run first, it runs while others do not wait for it.

    The order of ``-n 2 --dist loadfile --no-loadscope-reorder``, where the longest files are first.
    """
    finished = [item.path for item in items if "cold" in getattr(item, "fixturenames", ())]

    def position(item):
        if "workflow" not in item.keywords:
            return 3
        if item.path not in finished:
            return 1
        return 0 if item.path == finished[0] else 2

    items.sort(key=position)


@pytest.fixture
def config():
    """Return a copy of the tiny config."""
    return tiny()


@pytest.fixture
def folder(tmp_path, config):
    """Return an empty folder with the tiny config."""
    folder = Folder(tmp_path / "run")
    folder.configure(config)
    return folder


@pytest.fixture(scope="session")
def cold(tmp_path_factory, worker_id):
    """Run the tiny config from scratch, once for all workers of xdist; must not be modified.

    The HOME of the run cannot be created. `done` is the ended process.
    """
    base = tmp_path_factory.getbasetemp()
    folder = Folder((base if worker_id == "master" else base.parent) / "cold")
    ended = folder / "done.json"
    with FileLock(folder.path.with_suffix(".lock")):
        if not ended.exists():
            folder.configure(tiny())
            (folder / "file").touch()
            home, caches = str(folder / "file/home"), str(folder / "caches")
            done = folder.make(environment={"HOME": home, "XDG_CACHE_HOME": caches})
            ended.write_text(json.dumps([done.args, done.returncode, done.stdout, done.stderr]))
    folder.done = subprocess.CompletedProcess(*json.loads(ended.read_text()))
    return folder


@pytest.fixture
def finished(cold, tmp_path):
    """Return a copy of the finished run, with times of change and Snakemake's metadata."""
    shutil.copytree(cold.path, tmp_path / "run")
    return Folder(tmp_path / "run")


@pytest.fixture
def start():
    """Return a function that starts Snakemake in a folder."""
    started = []

    def begin(folder, *arguments, **options):
        started.append(Running(folder, *arguments, **options))
        return started[-1]

    yield begin
    for running in started:
        running.end()
