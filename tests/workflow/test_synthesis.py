"""SRe2L and EDC on shared observers: what is reused, what an edit touches, kills, the cut."""

import copy
import json
import os
import shutil
import signal

import pytest

pytestmark = pytest.mark.workflow

FOR_PEOPLE = {"tables": 1, "curves": 1, "charts": 1, "page": 1}


def with_synthesis(config):
    """Return a config with synthesised images in the place of the other methods."""
    config["sources"]["digits"]["holdout"] = 0.8
    config["teachers"] = {
        "small": {"arch": "convnet1", "width": 4, "epochs": 2, "min_accuracy": 0},
        "other": {
            **{"arch": "convnet2", "width": 4, "norm": "instance"},
            **{"epochs": 1, "min_accuracy": 0},
        },
        "third": {"arch": "convnet1", "width": 6, "epochs": 1, "min_accuracy": 0},
    }
    config["methods"] = {
        "random": {"kind": "random"},
        "sre2l": {"kind": "sre2l", "observers": ["small"], "iterations": 20},
        "edc": {
            **{"kind": "edc", "observers": ["small", "other"], "initial": "random"},
            **{"iterations": 60, "batch_size": 2, "tile": 2},
        },
    }
    config["labels"]["soft"] |= {"teachers": ["small"], "epochs_stored": 4}
    config["protocols"]["soft"]["epochs"] = 4
    config["experiments"]["tiny"] |= {
        **{"methods": ["sre2l", "edc"], "ipc": [2]},
        **{"protocols": ["soft"], "seeds": [0]},
    }
    return config


@pytest.fixture(scope="module")
def cold(run_cold, tiny_config):
    """Run the config from scratch, once; not to be changed."""
    return run_cold(with_synthesis(tiny_config()))


@pytest.fixture
def config(tiny_config):
    """Return the config, free to be changed."""
    return with_synthesis(tiny_config())


def batches_of(folder, method):
    """Return the pattern of the folders of a method's batches."""
    spec = json.loads(folder.one(f"distilled/*/{method}-*/*/spec.json").read_text())
    return spec["upstream"]["synthesis"]["address"].removeprefix("results/") + "-batch*"


def test_an_observer_is_trained_and_looked_at_once(cold):
    assert cold.jobs() == {}
    assert len(cold.paths("teacher/*/model.safetensors")) == 2
    # SRe2L matches what batch norms know by themselves.
    assert len(cold.paths("statistics/*/statistics.safetensors")) == 2
    # Of three classes, two images each: SRe2L's batches have one of each, EDC's two of one.
    assert len(cold.paths(f"{batches_of(cold, 'sre2l')}/images.parquet")) == 2
    assert len(cold.paths(f"{batches_of(cold, 'edc')}/images.parquet")) == 3
    assert [row["method"] for row in cold.rows()] == ["sre2l", "edc"]
    seconds = [float(row["seconds_distill"]) for row in cold.rows()]
    assert all(value > 0 for value in seconds)


def test_an_observer_added_trains_and_looks_with_that_one_alone(finished, config):
    config["methods"]["edc"]["observers"] = ["small", "other", "third"]
    finished.configure(config)
    assert finished.jobs() == {
        **{"teacher": 1, "statistics": 1, "synthesis": 1, "distilled": 1, "descents": 1},
        **{"labels": 1, "students": 1, "contact_sheet": 1},
        **FOR_PEOPLE,
    }


def test_more_images_per_class_reuse_statistics(finished, config):
    config["experiments"]["tiny"]["ipc"] = [2, 3]
    finished.configure(config)
    assert finished.jobs() == {
        # Two methods; the random images that EDC starts from have no students.
        **{"synthesis": 2, "distilled": 3, "contact_sheet": 3, "descents": 2},
        **{"labels": 2, "students": 2},
        **FOR_PEOPLE,
    }


def test_an_edit_goes_as_far_as_what_it_shapes(finished, config):
    before = copy.deepcopy(config)
    for setting, value, n_statistics in (
        ("iterations", 61, 0),
        ("alpha", 0.25, 0),
        ("weights", {"batchnorm": 0.1}, 0),
        ("tile", 4, 2),
        ("statistics", {"flip": 0.0}, 2),
    ):
        config = copy.deepcopy(before)
        config["methods"]["edc"][setting] = value
        finished.configure(config)
        planned = finished.jobs()
        assert planned.get("statistics", 0) == n_statistics, setting
        assert planned["synthesis"] == planned["distilled"] == 1, setting
        assert "teacher" not in planned
    finished.configure(before)
    assert finished.jobs() == {}


@pytest.mark.parametrize(("batches_per_job", "cores"), [(1, 2), (2, 1)])
def test_the_cut_into_jobs_changes_no_byte(folder, config, cold, batches_per_job, cores):
    """From the statistics on; `cold` has all batches in one job."""
    config["compute"]["batches_per_job"] = batches_per_job
    shutil.copytree(cold.path, folder.path, dirs_exist_ok=True)
    folder.configure(config)
    assert folder.jobs() == {}
    folder.remove("statistics", "synthesis", "distilled/*/edc-*", "distilled/*/sre2l-*")
    folder.remove("labels", "students", "tables")
    assert folder.jobs()["synthesis"] == {1: 5, 2: 3}[batches_per_job]
    folder.make(cores=cores)
    folder.assert_same(cold)


@pytest.mark.parametrize("killed", ["job", "both"])
def test_what_was_killed_ends_as_if_undisturbed(finished, cold, start, killed):
    batches = batches_of(finished, "edc")
    finished.remove(batches, "distilled/*/edc-*", "labels", "students", "tables")
    running = start(finished)
    running.until_file(".work/synthesis-*/state.safetensors")
    job = running.job("synthesis")
    if killed == "both":
        os.killpg(running.process.pid, signal.SIGKILL)
    else:
        job.kill()
    assert running.wait() != 0
    assert len(finished.paths(f"{batches}/images.parquet")) < 3
    if killed == "both":
        finished.make("--unlock")
    finished.make()
    logs = (finished / "results/logs/synthesis").rglob("*.log")
    assert "resumes after iteration" in "".join(path.read_text() for path in logs)
    finished.assert_same(cold)
