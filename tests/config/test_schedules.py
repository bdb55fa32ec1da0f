"""Schedules are settled: every key written out, milestones in epochs."""

import pytest
from stillhouse.config import schedules
from stillhouse.config.load import complete


@pytest.mark.parametrize(
    ("schedule", "written"),
    [
        ("half_cosine", {"schedule": "cosine", "smoothing": 2.0}),
        ("cosine", {"schedule": "cosine", "smoothing": 1.0}),
        ("ssrs", {"schedule": "ssrs", "smoothing": 2.0}),
        ("linear", {"schedule": "linear", "smoothing": 1.0}),
        ("alrs", {"schedule": "alrs", "rate_decay": 0.9975}),
        (
            "multistep",
            {"schedule": "multistep", "milestones": [2 / 3, 5 / 6], "rate_decay": 0.2},
        ),
        ("constant", {"schedule": "constant"}),
        ("one_cycle", {"schedule": "one_cycle"}),
    ],
)
def test_every_key_of_a_schedule_is_written_out(schedule, written):
    assert schedules.written_out({"schedule": schedule}) == written
    explicit = dict.fromkeys(written.keys() - {"schedule"}, 7)
    if schedule != "half_cosine":
        assert schedules.written_out({"schedule": schedule, **explicit}) == {**written, **explicit}


@pytest.mark.parametrize(
    ("epochs", "milestones", "expected"),
    [
        (200, [0.5], [100]),
        (200, [100], [100]),
        (200, [150, 0.5], [100, 150]),
        (200, [0.5, 100], [100, 100]),
        (100, [0.07], [7]),  # 0.07 * 100 is more than 7
        (7, [0.5], [4]),
        (9, [2.5, 0.1], [1, 3]),
        (60, [2 / 3, 5 / 6], [40, 50]),
        (1, [0.5], [1]),
    ],
)
def test_milestones_are_the_first_epochs_that_have_passed_them(epochs, milestones, expected):
    settings = schedules.in_epochs({"epochs": epochs, "milestones": milestones})
    assert settings == {"epochs": epochs, "milestones": expected}
    for milestone in milestones if len(milestones) == 1 else ():
        passed = [e for e in range(epochs) if (e / epochs if milestone < 1 else e) >= milestone]
        assert passed == list(range(int(expected[0]), epochs))


@pytest.mark.parametrize(
    ("schedule", "written"),
    [
        ("half_cosine", {"schedule": "cosine", "smoothing": 2.0}),
        ("cosine", {"schedule": "cosine", "smoothing": 1.0}),
        (
            "multistep",
            {"schedule": "multistep", "milestones": [6.0, 8.0], "rate_decay": 0.2},
        ),
        ("one_cycle", {"schedule": "one_cycle"}),
    ],
)
def test_the_schedule_of_a_teacher_is_settled(tiny, schedule, written):
    tiny["teachers"]["t"] |= {"epochs": 9, "schedule": schedule}
    teacher = complete(tiny, "tiny.yaml")["teachers"]["t"]
    keys = {"schedule", *schedules.KEYS}
    assert {k: v for k, v in teacher.items() if k in keys} == written


def test_a_loaded_teacher_has_no_schedule(tiny):
    tiny["teachers"]["t"] = {"arch": "convnet1", "weights": {"file": "x", "sha256": "0" * 64}}
    teacher = complete(tiny, "tiny.yaml")["teachers"]["t"]
    assert not {"schedule", *schedules.KEYS} & teacher.keys()
