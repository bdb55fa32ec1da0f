"""The cut into jobs, kills and failures change nothing in what is made in the end."""

import os
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow


def assert_unlocked_again(folder):
    """Check that Snakemake, killed without warning, says that its folder is locked; unlock it."""
    done = folder.snakemake()
    assert done.returncode != 0
    assert "--unlock" in done.stderr
    folder.make("--unlock")


@pytest.mark.parametrize(("classes_per_block", "seeds_per_job", "cores"), [(1, 10, 1), (3, 1, 2)])
def test_the_cut_into_jobs_changes_no_byte(
    folder, config, cold, classes_per_block, seeds_per_job, cores
):
    """From scratch; `cold` has all classes in one job, all seeds in another, and two cores."""
    config["sources"]["digits"]["classes_per_block"] = classes_per_block
    config["compute"]["seeds_per_job"] = seeds_per_job
    folder.configure(config)
    assert folder.jobs()["students"] == {10: 4, 1: 8}[seeds_per_job]
    folder.make(cores=cores)
    n_blocks = {1: 4, 3: 2}[classes_per_block]
    assert len(folder.paths("logs/images/**/*.log")) == n_blocks
    folder.assert_same(cold)


RDED = "few-rded-*-soft-*"

# Moment → what is not there yet, the side file that shows that the job is at work, its last output.
MOMENTS = {
    "teacher": (
        ("teacher", "patch_scores", "distilled/few/rded-*", "labels", "students"),
        "state.safetensors",
        "teacher/*/model.safetensors",
    ),
    "labels": (
        (f"labels/{RDED}", f"students/{RDED}"),
        "part-*.parquet",
        f"labels/{RDED}/labels.parquet",
    ),
    "students": (
        (f"students/{RDED}",),
        "state.safetensors",
        f"students/{RDED}/seed1/cell.json",
    ),
}


@pytest.mark.parametrize("killed", ["job", "snakemake", "both"])
@pytest.mark.parametrize("stage", MOMENTS)
def test_what_was_killed_ends_as_if_undisturbed(finished, cold, start, stage, killed):
    removed, side_file, last = MOMENTS[stage]
    finished.remove("tables", *removed)
    running = start(finished)
    running.until_file(f".work/{stage}-*/{side_file}")
    job = running.job(stage)
    if killed == "both":
        os.killpg(running.process.pid, signal.SIGKILL)
    else:
        (job if killed == "job" else running.process).kill()
    assert running.wait() != 0
    if killed != "snakemake":
        job.wait(10)
        assert not finished.paths(last)
    if killed != "job":
        assert_unlocked_again(finished)

    finished.make()
    (log,) = (finished / "results/logs").glob(f"{stage}/{'*' if stage == 'teacher' else RDED}.log")
    said = log.read_text()
    # A job that outlived Snakemake has perhaps ended well; otherwise its successor goes on.
    assert "resumes after epoch" in said or (killed == "snakemake" and finished.paths(last))
    finished.assert_same(cold)


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
    finished.assert_same(cold)


def waits_for_a_lock(pid):
    """Tell whether a process waits for a file lock that another one holds."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(pid) in line.split() for line in lines)


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
    assert "resumes after epoch 100" in log.read_text()
    assert "0/0" not in log.read_text()
    finished.assert_same(cold)
