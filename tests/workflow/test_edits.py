"""An edit of the config touches what it shapes and what follows from that, and nothing else."""

import collections
import copy
import shutil

import pytest

pytestmark = pytest.mark.workflow

FOR_PEOPLE = {"tables": 1, "curves": 1, "charts": 1, "page": 1}


def test_an_rded_setting_remakes_what_rded_makes_and_going_back_finds_the_old(finished, config):
    edited = copy.deepcopy(config)
    edited["methods"]["rded"]["crops_per_image"] = 3
    finished.configure(edited)
    assert finished.jobs() == {
        **{"patch_scores": 1, "distilled": 1, "labels": 1, "students": 2, "contact_sheet": 1},
        **FOR_PEOPLE,
    }
    finished.configure(config)
    assert finished.jobs() == {}

    before, numbers = finished.states(), finished.numbers()
    finished.configure(edited)
    finished.make("results/tables/tiny.csv")
    now = finished.states()
    assert {path: now[path] for path in before} == before
    fresh = set(now) - set(before)
    assert {path.split("/")[0] for path in fresh} == {
        *("patch_scores", "distilled", "labels", "students"),
    }
    assert not [path for path in fresh if "random" in path]
    assert finished.numbers()[:4] == numbers[:4]
    assert not {row["digest"] for row in finished.numbers()[4:]} & {r["digest"] for r in numbers}

    finished.configure(config)
    assert finished.jobs() == {"tables": 1, "charts": 1, "page": 1}
    finished.make()
    assert finished.numbers() == numbers


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def test_another_order_of_keys_makes_nothing_again(finished, config):
    # Snakemake compares the text of params, and what it makes again for them it makes alone:
    # missing artifacts that take it as it is would be left out of the run.
    finished.configure(reversed_keys(config))
    assert finished.jobs() == {}


def test_more_images_per_class_need_only_new_sets_and_what_follows(finished, config):
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    finished.configure(config)
    planned = finished.plan()
    assert dict(collections.Counter(job.stage for job in planned)) == {
        **{"distilled": 2, "contact_sheet": 2, "labels": 2, "students": 4},
        **FOR_PEOPLE,
    }
    assert not [path for job in planned for path in job.outputs if "ipc1" in path]


@pytest.mark.parametrize(
    ("section", "setting", "value", "n_students"),
    [("students", "width", 6, 4), ("protocols", "learning_rate", 0.002, 2)],
)
def test_a_student_setting_makes_new_students_and_no_labels(
    finished, config, section, setting, value, n_students
):
    config[section]["soft" if section == "protocols" else "small"][setting] = value
    finished.configure(config)
    assert finished.jobs() == {"students": n_students, **FOR_PEOPLE}


def test_an_added_student_seed_alone_is_trained(finished, config):
    config["experiments"]["tiny"]["seeds"] = [0, 1, 2]
    finished.configure(config)
    assert finished.jobs() == {"students": 4, **FOR_PEOPLE}
    before = finished.states()
    family = finished.one("students/few-random-ipc1-seed0-hard-*")
    finished.make(f"results/students/{family.name}/seed2/cell.json")
    now = finished.states()
    assert {path: now[path] for path in before} == before
    assert folders(set(now) - set(before)) == {f"students/{family.name}/seed2"}


def folders(paths):
    """Return the folders that hold some files."""
    return {path.rsplit("/", 1)[0] for path in paths}


def test_another_cut_into_blocks_has_nothing_to_do(finished, config):
    config["sources"]["digits"]["classes_per_block"] = 2
    finished.configure(config)
    assert finished.jobs() == {}


def test_of_more_classes_only_the_new_ones_are_scored(finished, config):
    config["datasets"]["few"]["classes"] = ["0", "1", "2", "3"]
    finished.configure(config)
    planned = finished.jobs()
    assert not {"index", "images", "teacher"} & set(planned)
    before = finished.states()
    scores = finished.one("patch_scores/*/seed0")
    finished.make(str(scores.relative_to(finished.path) / "3/scores.parquet"))
    now = finished.states()
    assert {path: now[path] for path in before} == before
    fresh = scores.relative_to(finished / "results") / "3"
    assert folders(set(now) - set(before)) == {str(fresh)}
    del planned["patch_scores"]
    assert finished.jobs() == planned


def test_of_more_classes_only_the_new_ones_are_imaged(finished, config):
    fewer = copy.deepcopy(config)
    config["datasets"]["few"]["classes"] = ["0", "1", "2", "4"]
    config["experiments"]["tiny"] |= {"methods": ["random"], "protocols": ["hard"]}
    finished.configure(config)
    before = finished.states()
    (job,) = [job for job in finished.plan() if job.stage == "images"]
    (new,) = [path for path in job.outputs if not (finished / path).exists()]
    finished.make(new)
    now = finished.states()
    assert {path: now[path] for path in before} == before
    assert folders(set(now) - set(before)) == folders([new.removeprefix("results/")])
    assert new.endswith("/4/images.parquet")

    # Their job has given the old classes' images a new time of change: nothing made of them is made
    # again, even where only times count.
    shutil.rmtree(finished / ".snakemake")
    fewer["experiments"]["tiny"]["ipc"] = [1, 2]
    finished.configure(fewer)
    assert not {"index", "images", "teacher", "patch_scores"} & set(finished.jobs())


def test_fewer_classes_need_the_stages_of_the_dataset_alone(finished, config):
    config["datasets"]["few"]["classes"] = ["0", "2"]
    finished.configure(config)
    assert finished.jobs() == {
        **{"distilled": 2, "contact_sheet": 2, "labels": 2, "students": 4},
        **FOR_PEOPLE,
    }


def test_lost_images_are_missed_when_needed_and_nothing_made_of_them_is_made_again(
    finished, config, cold
):
    finished.remove("images")
    assert finished.jobs() == {}
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    finished.configure(config)
    before = finished.states()
    finished.make()
    now, wanted = finished.states(), cold.artifacts()
    kept = {path: state for path, state in before.items() if not path.startswith("figures")}
    assert {path: now[path] for path in kept} == kept
    made = {path: content for path, content in finished.artifacts().items() if path in wanted}
    for name in ("accuracy", "bytes", "curves"):
        made[f"figures/tiny/{name}.svg"] = wanted[f"figures/tiny/{name}.svg"]
    assert made == wanted


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_how_things_are_computed_has_nothing_to_do(finished, config, device):
    config["compute"] = {"batch_size": 7, "threads": 2, "device": device, "seeds_per_job": 1}
    finished.configure(config)
    assert finished.jobs() == {}
