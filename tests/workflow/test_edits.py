"""Edits of a config recompute the stages they affect and change no others."""

import copy
import re
import shutil

import pytest

pytestmark = pytest.mark.workflow

REPORTS = {"tables": 1, "curves": 1, "charts": 1, "page": 1, "overview": 1}


def reversed_keys(value):
    """Return settings with the keys of all mappings in reverse order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def new_folders(before, now):
    """Return the folders, below ``results``, of new files; check that artifacts are unchanged."""
    unchanged = {path: now[path] for path in before if not path.startswith("figures/tiny/")}
    assert unchanged == {path: before[path] for path in unchanged}
    return {path.rsplit("/", 1)[0] for path in now.keys() - before.keys()}


def test_a_finished_run_has_nothing_to_do(finished, config):
    assert finished.jobs() == {}
    # Nor with keys in another order, or other compute settings, or without Snakemake's metadata.
    config["compute"] = {"batch_size": 7, "threads": 2, "device": "cuda"}
    finished.configure(reversed_keys(config))
    shutil.rmtree(finished / ".snakemake")
    assert finished.jobs() == {}
    # Missing images are an error only for jobs that read them.
    finished.remove_stages("images")
    assert finished.jobs() == {}


def test_an_edit_recomputes_the_stages_it_affects_and_reverting_it_nothing(finished, config):
    edited = copy.deepcopy(config)
    edited["methods"]["rded"]["crops_per_image"] = 3
    edited["methods"]["d4m"]["strength"] = 0.5
    finished.configure(edited)
    assert finished.jobs() == {
        **{"patch_scores": 1, "decode": 1, "distilled": 2, "labels": 2, "students": 2},
        **{"contact_sheet": 2, **REPORTS},
    }
    finished.configure(config)
    assert finished.jobs() == {}


def test_of_more_classes_the_new_one_alone_is_computed(finished, config):
    config["datasets"]["few"]["classes"] = ["0", "1", "2", "3"]
    finished.configure(config)
    planned = finished.jobs()
    assert not {"index", "images", "teacher", "denoiser", "dataset"} & set(planned)
    before = finished.states()
    scores = finished.one("patch_scores/*/seed0").relative_to(finished / "results")
    finished.make(*finished.outputs("patch_scores"))
    assert new_folders(before, finished.states()) == {f"{scores}/3"}


def test_fewer_classes_compute_nothing_per_class(finished, config):
    config["datasets"]["few"]["classes"] = ["0", "2"]
    finished.configure(config)
    planned = finished.plan()
    new = [job for job in planned if not job.outputs[0].startswith("results/manifests/")]
    assert {job.rule for job in new} == {
        *("dataset", "statistics", "distilled", "contact_sheet", "labels", "synthesis_progress"),
        *REPORTS,
    }
    # In the other jobs all members are complete; they only list them.
    per_class = ("patch_scores", "latents", "prototypes", "decode")
    listed = [path for job in planned if job.rule in per_class for path in job.outputs]
    before = finished.states()
    finished.make(*listed)
    assert new_folders(before, finished.states()) == set()


def test_other_blocks_compute_what_is_missing_alone(finished, config):
    students, numbers = finished.one("students/few-rded-*"), finished.numbers()
    folder = students.relative_to(finished / "results")
    finished.remove(folder, "logs/students", "tables")
    config["sources"]["digits"]["classes_per_block"] = 2
    config["compute"] |= {"seeds_per_job": 1, "batches_per_job": 1}
    finished.configure(config)
    before = finished.states()
    finished.make("results/tables/tiny.csv")
    new = {str(folder), f"{folder}/seed0", f"{folder}/seed1"}
    assert new_folders(before, finished.states()) == new
    assert finished.numbers() == numbers
    assert finished.jobs("results/tables/tiny.csv") == {}
    # A job computes the members of its block and no others.
    computed = [
        re.findall(r"(seed\d): computed", (finished / "results" / path).read_text())
        for path in finished.paths(f"logs/students/{folder.name}*/*.log")
    ]
    assert sorted(computed) == [["seed0"], ["seed1"]]


def test_an_added_student_seed_alone_is_trained_without_snakemakes_metadata(finished, config):
    shutil.rmtree(finished / ".snakemake")
    numbers = finished.numbers()
    config["experiments"]["tiny"] |= {"methods": ["rded"], "seeds": [0, 1, 2]}
    finished.configure(config)
    assert finished.jobs() == {"students": 1, **REPORTS}
    before = finished.states()
    students = finished.one("students/few-rded-*").relative_to(finished / "results")
    finished.make(*finished.outputs("students"), "results/tables/tiny.csv")
    assert new_folders(before, finished.states()) == {f"{students}/seed2"}
    rows = finished.numbers()
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert rows[:2] == numbers[:2]


def test_an_earlier_table_is_restored_without_snakemakes_metadata(finished, config):
    """Fewer seeds replace the table; later, the manifest of all seeds is older than the table."""
    table, full = "results/tables/tiny.csv", finished.numbers()
    finished.configure({**config, "experiments": with_seeds(config, [0])})
    finished.make(table)
    assert {row["seed"] for row in finished.rows()} == {"0"}
    shutil.rmtree(finished / ".snakemake")
    finished.configure(config)
    assert finished.jobs(table) == {"tables": 1}
    finished.make(table)
    assert finished.numbers() == full
    assert finished.jobs(table) == {}


def with_seeds(config, seeds):
    return {"tiny": {**config["experiments"]["tiny"], "seeds": seeds}}


def test_settings_of_tables_and_figures_alone_are_noticed_without_metadata(finished, config):
    shutil.rmtree(finished / ".snakemake")
    config["protocols"]["soft"]["report"] = "best"
    finished.configure(config)
    assert finished.jobs() == REPORTS
    finished.make()
    assert finished.jobs() == {}
    # A figure that shows another set than its record says is drawn again.
    record = finished.one("manifests/reports/figures/tiny/synthesis-edc-seed0.png.json")
    record.write_text('{"contents": "0123"}')
    assert finished.jobs() == {"synthesis_progress": 1, "page": 1, "overview": 1}


def test_a_table_of_another_config_is_added_to_the_overview(finished):
    shutil.copy(finished / "results/tables/tiny.csv", finished / "results/tables/other.csv")
    assert finished.jobs() == {"overview": 1}
    finished.make()
    assert finished.jobs() == {}
    overview = (finished / "results/report/index.html").read_text()
    assert '<a href="tiny.html">tiny</a>' in overview
    assert "../tables/other.csv" in overview and "other.html" not in overview
