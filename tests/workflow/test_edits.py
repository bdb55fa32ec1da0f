"""An edit of the config touches what it shapes and what follows from that, and nothing else."""

import pytest

pytestmark = pytest.mark.workflow

FOR_PEOPLE = {"tables": 1, "curves": 1}


def test_an_rded_setting_remakes_what_rded_makes_and_going_back_finds_the_old(finished, config):
    config["methods"]["rded"]["crops_per_image"] = 3
    finished.configure(config)
    after = {"patch_scores": 1, "distilled": 1, "labels": 1, "students": 2, "contact_sheet": 1}
    planned = finished.plan()
    assert finished.jobs() == after | FOR_PEOPLE
    assert not [path for job in planned for path in job.outputs if "random" in path]

    config["methods"]["rded"]["crops_per_image"] = 2
    finished.configure(config)
    assert finished.jobs() == {}

    before, numbers = finished.states(), finished.numbers()
    config["methods"]["rded"]["crops_per_image"] = 3
    finished.configure(config)
    finished.make()
    now = finished.states()
    del before["figures/tiny.svg"]
    assert {path: now[path] for path in before} == before
    fresh = set(now) - set(before)
    assert {path.split("/")[0] for path in fresh} == {
        *("patch_scores", "distilled", "labels", "students", "figures"),
    }
    assert not [path for path in fresh if "random" in path]
    assert [row for row in finished.numbers() if row["method"] == "random"] == numbers[:4]
    assert [row["digest"] for row in finished.numbers()] != [row["digest"] for row in numbers]

    config["methods"]["rded"]["crops_per_image"] = 2
    finished.configure(config)
    assert finished.jobs() == FOR_PEOPLE
    finished.make()
    assert finished.numbers() == numbers


def test_more_images_per_class_need_only_new_sets_and_what_follows(finished, config):
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    finished.configure(config)
    assert finished.jobs() == {
        **{"distilled": 2, "contact_sheet": 2, "labels": 2, "students": 4},
        **FOR_PEOPLE,
    }
    outputs = [path for job in finished.plan() for path in job.outputs]
    assert not [path for path in outputs if "ipc1" in path]


@pytest.mark.parametrize(
    ("section", "name", "setting", "value", "n_students"),
    [
        ("students", "small", "arch", "convnet2", 4),
        ("students", "small", "width", 6, 4),
        ("protocols", "soft", "learning_rate", 0.002, 2),
    ],
)
def test_a_student_setting_makes_new_students_and_no_labels(
    finished, config, section, name, setting, value, n_students
):
    config[section][name][setting] = value
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
    assert {path.rsplit("/", 1)[0] for path in set(now) - set(before)} == {
        f"students/{family.name}/seed2"
    }


@pytest.mark.parametrize("size", [1, 2])
def test_another_cut_into_blocks_has_nothing_to_do(finished, config, size):
    config["sources"]["digits"]["classes_per_block"] = size
    finished.configure(config)
    assert finished.jobs() == {}


def test_of_more_classes_only_the_new_ones_are_scored(finished, config):
    config["datasets"]["few"]["classes"] = ["0", "1", "2", "3"]
    finished.configure(config)
    planned = finished.jobs()
    assert not {"index", "images", "teacher"} & set(planned)
    before = finished.states()
    scores = finished.one("patch_scores/*/seed0").relative_to(finished.path)
    finished.make(f"{scores}/3/scores.parquet")
    now = finished.states()
    assert {path: now[path] for path in before} == before
    scored = {str(path.parent) for path in finished.paths("patch_scores/**/scores.parquet")}
    assert {path.rsplit("/", 1)[0] for path in set(now) - set(before)} == {
        *scored - {path.rsplit("/", 1)[0] for path in before}
    }
    assert finished.jobs() == planned | {"patch_scores": 0} or "patch_scores" not in finished.jobs()


def test_of_more_classes_only_the_new_ones_are_imaged(finished, config):
    config["datasets"]["few"]["classes"] = ["0", "1", "2", "4"]
    config["experiments"]["tiny"] |= {"methods": ["random"], "protocols": ["hard"]}
    finished.configure(config)
    before = finished.states()
    (job,) = [job for job in finished.plan() if job.stage == "distilled"]
    finished.make(*job.outputs)
    now = finished.states()
    assert {path: now[path] for path in before} == before
    fresh = {path.rsplit("/", 1)[0] for path in set(now) - set(before)}
    images = finished.one("images/*").relative_to(finished / "results")
    assert fresh == {f"{images}/4", job.outputs[0].removeprefix("results/").rsplit("/", 1)[0]}


def test_fewer_classes_need_the_stages_of_the_dataset_alone(finished, config):
    config["datasets"]["few"]["classes"] = ["0", "2"]
    finished.configure(config)
    assert finished.jobs() == {
        **{"distilled": 2, "contact_sheet": 2, "labels": 2, "students": 4},
        **FOR_PEOPLE,
    }


@pytest.mark.parametrize(
    "compute",
    [
        {"batch_size": 7},
        {"threads": 2},
        {"device": "auto"},
        {"checkpoint_seconds": 60},
        {"batch_size": 7, "threads": 2, "device": "cuda", "checkpoint_seconds": 60},
    ],
)
def test_how_things_are_computed_has_nothing_to_do(finished, config, compute):
    config["compute"] |= compute
    finished.configure(config)
    assert finished.jobs() == {}
