"""Kills and failures do not change results, and lose no complete member."""

import os
import signal

import pytest
from snakemake_runs import Folder

pytestmark = pytest.mark.workflow

STUDENTS = "students/few-rded-*"
TABLE = "results/tables/tiny.csv"


def test_a_killed_run_is_resumed_and_complete_members_survive(finished, cold, start):
    """Snakemake and its job are killed at once; for one of them, see test_kills.py."""
    finished.remove(STUDENTS, f"manifests/{STUDENTS}", f"logs/{STUDENTS}", "tables")
    running = start(finished, TABLE)
    # The first seed is complete, the second is trained.
    running.until_checkpoint(f"{STUDENTS}/seed1", "state.safetensors")
    job = running.job("students")
    os.killpg(running.process.pid, signal.SIGKILL)
    assert running.wait() != 0
    job.wait(120)
    assert not finished.paths(f"{STUDENTS}/seed1/cell.json")
    assert "--unlock" in finished.fail(TABLE)[0]
    finished.make("--unlock")
    assert finished.paths(f"{STUDENTS}/seed0/cell.json")
    survived = {path: state for path, state in finished.states().items() if "seed1" not in path}

    finished.make(TABLE)
    states = finished.states()
    assert {path: states[path] for path in survived} == survived
    assert "resumes after epoch" in finished.logs(STUDENTS.split("/")[0])
    finished.assert_same(cold)


def test_a_job_that_outlives_its_killed_snakemake_is_waited_for(finished, cold, start):
    finished.remove("labels/few-rded-*", "logs/labels")
    target = cold.relative(cold.one("labels/few-rded-*/labels.parquet"))
    running = start(finished, target)
    running.until_checkpoint("labels/few-rded-*", "part-*.parquet")
    orphan = running.job("labels")
    orphan.suspend()
    assert not finished.paths("labels/few-rded-*/labels.parquet")
    running.process.kill()
    running.wait()
    finished.make("--unlock")

    second = start(finished, target)
    second.until(lambda: "waiting for its end" in finished.logs("labels"))
    orphan.resume()
    assert second.wait() == 0, second.console()
    assert ": complete" in finished.logs("labels")
    finished.assert_same(cold)


def test_a_failed_job_keeps_its_complete_members_and_reports_the_damaged_file(finished, cold):
    """Of three classes, the images of the second are truncated; their scores fail."""
    finished.remove_stages("patch_scores")
    image = finished.one("images/*/1/images.parquet")
    image.write_bytes(image.read_bytes()[:-100])
    (manifest,) = finished.paths("manifests/images/**/*.json")
    target = cold.relative(cold.one("manifests/patch_scores/*/*.json"))
    _, errors = finished.fail(target)
    (error,) = set(errors)
    assert finished.relative(image) in error
    assert f"delete the folder {finished.relative(image.parent)} and rerun" in error
    assert f"results/{manifest}" in error
    assert not (finished / "results" / manifest).exists()
    assert not (finished / target).exists()
    (scores,) = finished.paths("patch_scores/*/seed0/*/scores.parquet")
    assert scores.parent.name == "0"
    survived = {
        path: state
        for path, state in finished.states().items()
        if path.startswith(("images", "patch_scores")) and "/1/" not in path
    }

    finished.make(target)
    states = finished.states()
    assert {path: states[path] for path in survived} == survived
    assert finished.artifacts("images", "patch_scores") == cold.artifacts("images", "patch_scores")


@pytest.mark.parametrize(
    ("deleted", "problem"),
    [
        ("1", "1/scores.parquet: missing; rerun the workflow to create it"),
        pytest.param(
            *("lineage.json", "lineage.json: missing; run make verify, which writes it again"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_is_deleted_is_reported_by_its_reader_and_made_again_alone(
    finished, cold, deleted, problem
):
    finished.remove(f"patch_scores/*/seed0/{deleted}", "distilled/few/rded-*")
    (manifest,) = finished.paths("manifests/patch_scores/**/*.json")
    target = cold.relative(cold.one("distilled/few/rded-*/ipc1-seed0/images.parquet"))
    _, errors = finished.fail(target)
    (error,) = set(errors)
    assert f"/seed0/{problem}" in error
    assert f"results/{manifest}" in error
    assert not (finished / "results" / manifest).exists()
    before = finished.states()
    assert finished.jobs(target) == {"patch_scores": 1, "distilled": 1}
    finished.make(target)
    states = finished.states()
    assert {path: states[path] for path in before} == before
    finished.assert_same(cold)


def test_a_failed_teacher_leaves_no_output_and_need_not_be_trained_again(finished, config, cold):
    target = cold.relative(cold.one("teacher/*/model.safetensors"))
    finished.remove("teacher", "logs/teacher")
    others = finished.states()
    config["teachers"]["small"]["min_accuracy"] = 100
    finished.configure(config)
    output, _ = finished.fail(target)
    assert not finished.paths("teacher/**/*")
    log = finished.logs("teacher")
    (line,) = [line for line in log.splitlines() if line.startswith("error: ")]
    assert "min_accuracy 100%" in line
    assert line in output
    assert "Traceback" not in log
    states = finished.states()
    assert {path: states[path] for path in others} == others

    config["teachers"]["small"]["min_accuracy"] = 0
    finished.configure(config)
    finished.make(target)
    assert "resumes after epoch 10" in finished.logs("teacher")
    finished.assert_same(cold)


def test_another_user_needs_nothing_of_linked_results(cold, tmp_path, config):
    other = Folder(tmp_path / "other")
    other.configure(config)
    (other / "results").symlink_to(cold.path / "results")
    assert other.jobs() == {}
    config["experiments"]["tiny"]["methods"] = ["rded"]
    config["experiments"]["mine"] = config["experiments"].pop("tiny") | {"seeds": [0, 2]}
    other.configure(config)
    assert other.jobs("--until", "students") == {"students": 1}
