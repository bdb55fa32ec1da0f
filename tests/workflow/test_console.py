"""What a run prints: short lines, each job's start and end, and where the results are."""

import re

import pytest

pytestmark = pytest.mark.workflow
LINE = re.compile(r"^\[\d\d:\d\d:\d\d\] (\w+).*?(: done in [\d.]+ s)?$", re.M)


def test_every_job_has_a_line_for_its_start_and_one_for_its_end(cold):
    printed = cold.done.stdout + cold.done.stderr
    assert max(map(len, printed.splitlines())) <= 300
    lines = LINE.findall(printed)
    done = [rule for rule, seconds in lines if seconds]
    assert sorted(rule for rule, seconds in lines if not seconds) == sorted(done)
    assert {"index", "teacher", "patch_scores", "students", "tables", "page"} <= set(done)
    assert re.search(r"^\[.*\] students few-rded-\S+ seed 0, 1$", printed, re.M)
    assert "input:" not in printed
    assert not re.search("error|traceback|exception", printed, re.I), printed


def test_a_finished_run_prints_where_its_tables_are(finished):
    done = finished.make()
    printed = done.stdout + done.stderr
    assert "Nothing to be done" in printed
    assert "tiny: results/tables/tiny.md  results/report/tiny.html" in printed


def test_a_job_that_runs_again_says_why(finished, config):
    config["experiments"]["tiny"]["seeds"] = [0]
    finished.configure(config)
    printed = finished.make("--dry-run").stdout
    assert re.search(r"^tables tiny \(new contents\)$", printed, re.M), printed
    assert max(map(len, printed.splitlines())) <= 300


def test_a_failed_job_shows_the_end_of_its_log_and_few_inputs(finished):
    labels = finished.relative(finished.one("labels/few-rded-*/labels.parquet"))
    finished.remove("labels/few-rded-*")
    finished.one("teacher/*/model.safetensors").write_bytes(b"")
    output, errors = finished.fail(labels)
    assert errors and all("model.safetensors" in line for line in errors)
    assert max(map(len, output.splitlines())) <= 300


def test_a_table_of_more_cells_is_not_replaced_without_a_warning(finished, config):
    config["experiments"]["tiny"]["seeds"] = [0]
    finished.configure(config)
    done = finished.make("results/tables/tiny.csv")
    (warning,) = [line for line in done.stderr.splitlines() if "results/tables/tiny.csv" in line]
    assert "its 6 cells are replaced by the 3 of " in warning
