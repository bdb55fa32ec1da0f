"""The cut into jobs, kills and failures change nothing in what is made in the end."""

import os
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow


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


def test_the_cut_and_the_number_of_cores_change_no_byte(folder, config, cold):
    """Three classes a job, one core; `cold` has all classes in one job and two cores."""
    config["sources"]["digits"]["classes_per_block"] = 3
    config["compute"]["threads"] = 1
    folder.configure(config)
    cells = cold.one("students/few-rded-ipc1-seed0-soft-*").relative_to(cold.path)
    folder.make(f"{cells}/seed0/cell.json", cores=1)
    made = folder.artifacts()
    assert len(list((folder / "results/logs/images").glob("*/*.log"))) == 2
    assert {path.split("/")[0] for path in made} == {
        *("index", "images", "teacher", "patch_scores", "distilled", "labels", "students"),
    }
    assert made == {path: sha256 for path, sha256 in cold.artifacts().items() if path in made}


def test_a_killed_teacher_continues_and_ends_the_same(folder, config, cold, start):
    """From scratch, one class a job: another cut, too."""
    config["sources"]["digits"]["classes_per_block"] = 1
    folder.configure(config)
    running = start(folder)
    running.until_file(".work/teacher-*/state.safetensors")
    running.job("teacher").kill()
    assert running.wait() != 0
    assert not folder.paths("teacher/**/model.safetensors")
    assert folder.paths(".work/teacher-*/state.safetensors")

    folder.make()
    (log,) = (folder / "results/logs/teacher").glob("*.log")
    assert "continues after epoch" in log.read_text()
    assert len(list((folder / "results/logs/images").glob("*/*.log"))) == 4
    assert_same(folder, cold)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="sees waiting jobs in /proc/locks")
def test_a_job_that_outlives_its_killed_snakemake_is_waited_for(finished, cold, start):
    finished.remove("labels/few-rded-*", "students/few-rded-*-soft-*", "tables")
    running = start(finished)
    running.until_file(".work/labels-*/part-*.parquet")
    orphan = running.job("labels")
    orphan.suspend()
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


def test_students_killed_with_all_of_snakemake_continue_and_end_the_same(finished, cold, start):
    finished.remove("students/few-rded-*-soft-*", "tables")
    running = start(finished)
    running.until_file(".work/students-*/state.safetensors")
    job = running.job("students")
    os.killpg(running.process.pid, signal.SIGKILL)
    running.wait()
    job.wait(10)
    assert not finished.paths("students/few-rded-*-soft-*/seed1/cell.json")
    assert_unlocked_again(finished)

    finished.make()
    (log,) = (finished / "results/logs/students").glob("few-rded-*-soft-*.log")
    assert "continues after epoch" in log.read_text()
    assert_same(finished, cold)


def test_a_failed_teacher_leaves_no_output_and_need_not_be_trained_again(finished, config, cold):
    finished.remove("teacher")
    others = finished.states()
    config["teachers"]["small"]["min_accuracy"] = 100
    finished.configure(config)
    done = finished.snakemake()
    assert done.returncode != 0
    assert not finished.paths("teacher/**/*")
    (log,) = (finished / "results/logs/teacher").glob("*.log")
    (line,) = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert "under min_accuracy 100%" in line
    assert line in done.stderr + done.stdout
    assert "Traceback" not in log.read_text()
    now = finished.states()
    assert {path: now[path] for path in others} == others

    config["teachers"]["small"]["min_accuracy"] = 0
    finished.configure(config)
    finished.make()
    assert "continues after epoch 100" in log.read_text()
    assert_same(finished, cold)
