"""The cut into jobs, kills and failures change nothing in what is made in the end."""

import os
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

STAGES = ("index", "images", "teacher", "patch_scores", "distilled", "labels", "students")


def assert_same(folder, cold):
    """Check that a folder ends as if nothing had happened, with nothing left over."""
    assert folder.artifacts() == cold.artifacts()
    assert folder.numbers() == cold.numbers()


def assert_unlocked_again(folder):
    """Check that Snakemake, killed without warning, says that its folder is locked; unlock it."""
    done = folder.snakemake()
    assert done.returncode != 0
    assert "--unlock" in done.stderr
    folder.make("--unlock")


def assert_made(folder, cold, *stages):
    """Check that a folder has artifacts of some stages, each byte for byte that of `cold`."""
    made, expected = folder.artifacts(), cold.artifacts()
    assert {path.split("/")[0] for path in made} == set(stages)
    assert made == {path: expected.get(path) for path in made}
    for stage in stages[:4]:
        assert [p for p in made if p.startswith(stage)] == [
            p for p in expected if p.startswith(stage)
        ]


def test_the_cut_into_jobs_changes_no_byte(folder, config, cold):
    """One class a job, one core; `cold` has all four in one job, and two cores."""
    config["sources"]["digits"]["classes_per_block"] = 1
    folder.configure(config)
    scores = cold.paths("patch_scores/**/scores.parquet")
    folder.make(*(f"results/{path}" for path in scores), cores=1)
    assert len(folder.paths("logs/images/**/*.log")) == 4
    assert len(folder.paths("logs/patch_scores/**/*.log")) == len(scores) == 3
    assert_made(folder, cold, *STAGES[:4])


def test_a_killed_teacher_continues_and_ends_the_same(folder, config, cold, start):
    """From scratch, three classes a job; after the kill on one core."""
    config["sources"]["digits"]["classes_per_block"] = 3
    folder.configure(config)
    family = cold.one("students/few-rded-ipc1-seed0-soft-*").relative_to(cold.path)
    running = start(folder, f"{family}/seed0/cell.json")
    running.until_file(".work/teacher-*/state.safetensors")
    running.job("teacher").kill()
    assert running.wait() != 0
    assert not folder.paths("teacher/**/model.safetensors")
    assert folder.paths(".work/teacher-*/state.safetensors")

    folder.make(f"{family}/seed0/cell.json", cores=1)
    (log,) = (folder / "results/logs/teacher").glob("*.log")
    assert "continues after epoch" in log.read_text()
    assert len(folder.paths("logs/images/**/*.log")) == 2
    assert_made(folder, cold, *STAGES)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="sees waiting jobs in /proc/locks")
def test_a_job_that_outlives_its_killed_snakemake_is_waited_for(finished, cold, start):
    finished.remove("labels/few-rded-*", "students/few-rded-*-soft-*", "tables")
    running = start(finished)
    running.until_file(".work/labels-*/part-*.parquet")
    orphan = running.job("labels")
    orphan.suspend()
    assert not finished.paths("labels/few-rded-*/labels.parquet")
    running.process.kill()
    running.wait()
    assert_unlocked_again(finished)

    second = start(finished)
    job = second.until(lambda: second.job("labels"))
    second.until(lambda: waits_for_a_lock(job.pid))
    orphan.resume()
    assert second.wait() == 0, second.console()
    (log,) = (finished / "results/logs/labels").glob("few-rded-*.log")
    assert "whole already" in log.read_text()
    assert_same(finished, cold)


def waits_for_a_lock(pid):
    """Tell whether a process waits for a file lock that another one holds."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(pid) in line.split() for line in lines)


@pytest.mark.parametrize(
    ("stage", "removed", "side_file"),
    [
        ("labels", ("labels", "students"), "part-*.parquet"),
        ("students", ("students",), "state.safetensors"),
    ],
)
def test_a_job_killed_with_all_of_snakemake_continues_and_ends_the_same(
    finished, cold, start, stage, removed, side_file
):
    finished.remove("tables", *(f"{name}/few-rded-*-soft-*" for name in removed))
    running = start(finished)
    running.until_file(f".work/{stage}-*/{side_file}")
    job = running.job(stage)
    os.killpg(running.process.pid, signal.SIGKILL)
    running.wait()
    job.wait(10)
    last = {"labels": "labels.parquet", "students": "seed1/cell.json"}[stage]
    assert not finished.paths(f"{stage}/few-rded-*-soft-*/{last}")
    assert_unlocked_again(finished)

    finished.make()
    (log,) = (finished / "results/logs").glob(f"{stage}/few-rded-*-soft-*.log")
    assert "continues after epoch" in log.read_text()
    assert_same(finished, cold)


def test_a_failed_teacher_leaves_no_output_and_need_not_be_trained_again(finished, config, cold):
    target = cold.one("teacher/*/model.safetensors").relative_to(cold.path)
    finished.remove("teacher")
    others = finished.states()
    config["teachers"]["small"]["min_accuracy"] = 100
    finished.configure(config)
    done = finished.snakemake(str(target))
    assert done.returncode != 0
    assert not finished.paths("teacher/**/*")
    (log,) = (finished / "results/logs/teacher").glob("*.log")
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert "under min_accuracy 100%" in line
    assert line in done.stderr
    assert "Traceback" not in log.read_text()
    now = finished.states()
    assert {path: now[path] for path in others} == others

    config["teachers"]["small"]["min_accuracy"] = 0
    finished.configure(config)
    finished.make(str(target))
    assert "continues after epoch 100" in log.read_text()
    assert "0/0" not in log.read_text()
    assert_same(finished, cold)
