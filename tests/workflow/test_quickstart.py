"""From nothing to tables; a second run; which config is run; targets; lineage."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
COLUMNS = [
    *("experiment", "dataset", "method", "fidelity", "ipc", "distill_seed", "teacher", "labels"),
    *("label_encoding", "student", "protocol", "seed", "accuracy", "accuracy_best"),
    *("accuracy_top5", "image_bytes", "label_bytes", "seconds_teacher", "seconds_denoiser"),
    *("seconds_distill", "seconds_label", "seconds_train", "device", "published"),
    *("published_std", "digest", "recognised", "statistics_bytes"),
]
KEPT = ("index", "images", "teacher", "patch_scores", "distilled", "labels", "students")


def test_a_cold_run_makes_tables_and_figures(cold):
    for path in (
        *("tables/tiny.csv", "tables/tiny.md", "tables/tiny.tex", "report/tiny.html"),
        *(f"figures/tiny/{name}.svg" for name in ("accuracy", "bytes", "cost", "curves")),
        *("figures/few/random-*/ipc1-seed0.png", "figures/few/rded-*/ipc1-seed0.png"),
    ):
        assert cold.one(path).stat().st_size > 0


def test_the_csv_has_one_row_a_cell_with_the_promised_columns(cold):
    with open(cold / "results/tables/tiny.csv", newline="") as stream:
        assert next(csv.reader(stream)) == COLUMNS
    cells = [
        (row["method"], row["ipc"], row["protocol"], row["student"], row["seed"])
        for row in cold.rows()
    ]
    assert cells == [
        (method, "1", protocol, "small", seed)
        for method in ("random", "rded")
        for protocol in ("soft", "hard")
        for seed in ("0", "1")
    ]
    assert all(0 < float(row["accuracy"]) <= 100 for row in cold.rows())
    assert all(float(row["seconds_train"]) > 0 for row in cold.rows())


def test_every_artifact_has_its_spec_and_timing_beside_it(cold):
    folders = {p.parent for p in cold.paths() if p.parts[0] in KEPT and p.suffix != ".json"}
    folders |= {p.parent for p in cold.paths("students/**/cell.json")}
    assert {folder.parts[0] for folder in folders} == set(KEPT)
    for folder in folders:
        assert {"spec.json", "timing.json"} <= set(os.listdir(cold / "results" / folder)), folder


def test_every_job_has_a_log_and_a_benchmark(cold, folder):
    planned = folder.plan()
    logs = {path.with_suffix("") for path in cold.paths("logs/**/*.log")}
    benchmarks = {path.with_suffix("") for path in cold.paths("benchmarks/**/*.jsonl")}
    assert {Path(*path.parts[1:]) for path in logs} == {Path(*p.parts[1:]) for p in benchmarks}
    stages = {job.stage for job in planned}
    families = {"page": "report", **dict.fromkeys(("curves", "charts", "contact_sheet"), "figures")}
    assert {path.parts[1] for path in logs} == {families.get(stage, stage) for stage in stages}
    assert len(logs) == len(planned)


def test_a_run_ends_with_the_table_and_where_things_lie(cold):
    table = (cold / "results/tables/tiny.md").read_text()
    ending = f"{table}\ntables: results/tables/  figures: results/figures/  "
    ending += "pages: results/report/\n"
    assert cold.done.stdout.endswith(ending)


def test_the_profile_beside_the_snakefile_is_used_from_any_directory(cold):
    assert f"{ROOT}/profiles/default" in cold.done.stderr


def test_a_second_run_has_nothing_to_do(finished):
    before = {p: (finished / "results" / p).stat().st_mtime_ns for p in finished.paths()}
    assert "Nothing to be done" in finished.make().stderr
    assert before == {p: (finished / "results" / p).stat().st_mtime_ns for p in finished.paths()}


def test_without_snakemakes_memory_there_is_nothing_to_do_either(finished):
    shutil.rmtree(finished / ".snakemake")
    assert finished.jobs() == {}


def test_a_given_config_is_run_and_nothing_of_the_default(cold, folder):
    made = {output for job in folder.plan() for output in job.outputs}
    assert {p for p in made if p.startswith("results/tables/")} == {
        "results/tables/tiny.csv",
        "results/tables/tiny.md",
        "results/tables/tiny.tex",
    }
    assert not [path for path in made if "quickstart" in path or "16px" in path]
    named = {path.parts[1] for path in cold.paths("distilled/**/images.parquet")}
    assert named == {"few"}


def test_a_given_config_is_not_filled_up_from_the_default(folder, config):
    del config["students"]
    folder.configure(config)
    done = folder.snakemake("--dry-run")
    assert done.returncode != 0
    assert "'students' is missing" in done.stdout


def test_without_a_config_the_embedded_default_is_planned(folder):
    (folder / "config.yaml").unlink()
    jobs = folder.plan(configfile=None)
    outputs = {output for job in jobs for output in job.outputs}
    assert "results/tables/quickstart.csv" in outputs
    assert {job.stage for job in jobs} >= {"teacher", "students", "curves"}


def test_numbers_can_be_overridden_on_the_command_line(finished, config):
    given = ("--config", "experiments={tiny: {ipc: [1, 2]}}")
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    planned = set(finished.plan(*given))
    finished.configure(config)
    assert planned == set(finished.plan())
    assert planned


def test_a_wrong_override_names_the_command_line(finished):
    done = finished.snakemake("--config", "students={small: {width: wide}}")
    assert done.returncode != 0
    (line,) = [ln for ln in done.stderr.splitlines() if "students.small.width" in ln]
    assert "--config: " in line


def test_config_overrides_on_the_command_line_reach_the_jobs_they_touch(finished):
    assert finished.jobs("--config", "students={small: {arch: convnet2}}") == {
        "students": 4,
        **dict.fromkeys(("tables", "curves", "charts", "page"), 1),
    }


def test_a_table_can_be_asked_for_alone(folder):
    (folder / "results/figures").mkdir(parents=True)
    jobs = folder.jobs("results/tables/tiny.csv")
    assert jobs["tables"] == 1
    assert not {"curves", "charts", "contact_sheet", "page"} & set(jobs)


@pytest.mark.parametrize(
    "target",
    [
        "results/distilled/few/rded-00000000/ipc1-seed0/images.parquet",
        "results/tables/other.csv",
    ],
)
def test_an_artifact_that_is_not_in_the_config_is_a_clear_error(folder, target):
    done = folder.snakemake("--dry-run", target)
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if "not in this config" in line]
    assert Path(target).parts[2].removesuffix(".csv") in line


def test_explain_prints_the_lineage_of_a_student_down_to_the_index(cold):
    student = cold.one("students/few-rded-ipc1-seed0-soft-*/seed1")
    done = subprocess.run(
        [sys.executable, "-m", "stillhouse.reporting.lineage", student.relative_to(cold.path)],
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
