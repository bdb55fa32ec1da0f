"""A run from scratch to tables; selection of the config; targets; lineage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake_runs import ROOT, Folder

from tests.workflow.conftest import tiny

pytestmark = pytest.mark.workflow

# Rules whose logs are in a folder of another name.
LOG_FOLDERS = {
    **dict.fromkeys(("page", "overview"), "report"),
    **dict.fromkeys(("curves", "charts", "contact_sheet", "synthesis_progress"), "figures"),
}


def test_a_cold_run_makes_tables_figures_and_pages(cold):
    for path in (
        *(
            "tables/tiny.csv",
            "tables/tiny.md",
            "tables/tiny.tex",
            "report/tiny.html",
            "report/index.html",
        ),
        *(f"figures/tiny/{name}.svg" for name in ("accuracy", "cost", "curves", "rates")),
        *(f"figures/few/{name}-*/ipc1-seed0.png" for name in ("rded", "d4m", "edc")),
        *("figures/tiny/synthesis-edc-seed0.png", "figures/tiny/terms-edc-seed0.svg"),
    ):
        assert cold.one(path).stat().st_size > 0


def test_a_run_needs_no_home_where_a_folder_for_caches_is_given(cold):
    assert (cold / "file").is_file()
    assert any((cold / "caches").iterdir())


def test_the_csv_has_one_row_per_cell(cold):
    cells = [(row["method"], row["ipc"], row["protocol"], row["seed"]) for row in cold.rows()]
    assert cells == [(m, "1", "soft", s) for m in ("rded", "d4m", "edc") for s in ("0", "1")]
    assert all(0 < float(row["accuracy"]) <= 100 for row in cold.rows())
    assert all(float(row["seconds_distill"]) > 0 for row in cold.rows())
    assert all(float(row["seconds_train"]) > 0 for row in cold.rows())
    assert {row["method"] for row in cold.rows() if float(row["seconds_denoiser"])} == {"d4m"}


@pytest.fixture(scope="module")
def planned_jobs(tmp_path_factory):
    """Return the jobs of the tiny config in an empty folder."""
    folder = Folder(tmp_path_factory.mktemp("planned"))
    folder.configure(tiny())
    return folder.plan()


def test_every_job_has_a_log_and_a_benchmark(cold, planned_jobs):
    logs = {Path(*path.with_suffix("").parts[1:]) for path in cold.paths("logs/**/*.log")}
    benchmarks = cold.paths("benchmarks/**/*.jsonl")
    assert logs == {Path(*path.with_suffix("").parts[1:]) for path in benchmarks}
    assert {log.parts[0] for log in logs} == {LOG_FOLDERS.get(j.rule, j.rule) for j in planned_jobs}
    assert len(logs) == len(planned_jobs)


def test_a_run_ends_with_the_table_and_the_folders_of_results(cold):
    table = (cold / "results/tables/tiny.md").read_text()
    ending = f"{table}\ntiny: results/tables/tiny.md  results/report/tiny.html\n"
    ending += "all experiments: results/report/index.html\n"
    ending += "distilled sets: results/distilled/\nfigures: results/figures/\n"
    assert cold.done.stdout.endswith(ending)
    # The profile beside the Snakefile is used from any directory.
    assert f"{ROOT}/profiles/default" in cold.done.stderr


def test_a_given_config_is_not_completed_from_the_default(planned_jobs, folder, config):
    outputs = {output for job in planned_jobs for output in job.outputs}
    assert {p for p in outputs if p.startswith("results/tables/")} == {
        f"results/tables/tiny.{suffix}" for suffix in ("csv", "md", "tex")
    }
    del config["students"]
    folder.configure(config)
    assert "students: missing" in folder.fail("--dry-run")[0]


def test_numbers_can_be_overridden_on_the_command_line(finished):
    students = "students={small: {arch: convnet2}}"
    assert finished.jobs("--config", students) == {
        "students": 3,
        **dict.fromkeys(("tables", "curves", "charts", "page", "overview"), 1),
    }
    output, _ = finished.fail("--config", "students={small: {width: wide}}")
    (line,) = [line for line in output.splitlines() if "students.small.width" in line]
    assert "--config: " in line


def test_a_table_can_be_a_target(folder):
    jobs = folder.jobs("results/tables/tiny.csv")
    assert jobs["tables"] == 1
    assert not {"curves", "charts", "contact_sheet", "page", "overview"} & set(jobs)


@pytest.mark.parametrize(
    "target",
    [
        "results/distilled/few/rded-00000000/ipc1-seed0/images.parquet",
        "results/manifests/images/digits-00000000/0000-0.json",
        "results/tables/other.csv",
    ],
)
def test_an_artifact_that_is_not_in_the_config_is_a_clear_error(folder, target):
    output, _ = folder.fail("--dry-run", target)
    (line,) = [line for line in output.splitlines() if "not in this config" in line]
    assert Path(target).parts[2].removesuffix(".csv") in line


def test_explain_prints_the_lineage_of_a_student_down_to_the_index(cold):
    student = cold.one("students/few-rded-ipc1-seed0-soft-*/seed1")
    done = subprocess.run(
        [sys.executable, "-m", "stillhouse.reporting.lineage", cold.relative(student)],
        cwd=cold.path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=True,
    )
    stages = ("students", "labels", "distilled", "patch_scores", "teacher", "images", "index")
    for stage in stages:
        assert f"results/{stage}/" in done.stdout, stage
    assert "crops_per_image: 2" in done.stdout
