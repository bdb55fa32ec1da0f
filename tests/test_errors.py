"""Messages about unknown names have the nearest name, or the available ones."""

import pytest
from stillhouse.errors import StillhouseError, known, ordered_crops, suggestion


def test_an_unknown_name_is_one_line():
    with pytest.raises(StillhouseError) as caught:
        known("labels.soft.teachers", "convnt3", {"convnet3": 0, "resnet": 1}, "teacher")
    expected = "labels.soft.teachers: unknown teacher 'convnt3'; did you mean 'convnet3'?"
    assert str(caught.value) == expected
    known("k", "resnet", {"resnet"}, "teacher")


@pytest.mark.parametrize(
    ("name", "choices", "remedy"),
    [
        ("x", ["b", "a"], "available: a, b"),
        ("x", [], "available: none"),
        (True, ["a"], "available: a"),
        ("zzzz", [f"name{i}" for i in range(30)], "30 are available"),
        ("resn", [f"wide_resnet{i}" for i in range(30)], "30 are available, such as wide_resnet"),
    ],
)
def test_the_remedy_names_what_exists(name, choices, remedy):
    assert suggestion(name, choices).startswith(remedy)


def test_crops_are_ordered_at_any_depth():
    ordered_crops("k", {"crop": [0.5, 0.5], "views": {"crop": [0.1, 1.0]}, "other": [2, 1]})
    with pytest.raises(StillhouseError, match=r"^k\.a\.b\.crop: must be \[smaller, larger\]"):
        ordered_crops("k", {"a": {"b": {"crop": [1.0, 0.9]}}})
