"""Duplicate keys are detected at any depth; merge keys and anchors are no duplicates."""

import pytest
from stillhouse.config import duplicates
from stillhouse.config.load import complete
from stillhouse.errors import StillhouseError


def refusal(path):
    with pytest.raises(StillhouseError) as caught:
        duplicates.check(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "a: duplicate key, in lines 1 and 3"),
        ("m:\n  r:\n    x: 1\n    x: 1\n", "m.r.x: duplicate key, in lines 3 and 4"),
        ("m: [{k: 1}, {k: 1, k: 2}]\n", "m.1.k: duplicate key, in lines 1 and 1"),
        ('m: {"a": 1, a: 2}\n', "m.a: duplicate key, in lines 1 and 1"),
        ("b: &b {x: 1,\n  x: 2}\nc: {<<: *b}\n", "b.x: duplicate key, in lines 1 and 2"),
    ],
)
def test_a_duplicate_key_is_an_error_with_its_lines(tmp_path, text, problem):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert refusal(path) == f"{path}: {problem}; remove one"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: {x: 1}\nb: {x: 1}\n",
        "base: &base {x: 1, y: 2}\none: {<<: *base, x: 3}\ntwo: {<<: *base, y: 3}\n",
        "a: &a {x: 1}\nb: &b {y: 1}\nc: {<<: [*a, *b], x: 2}\n",
        "a: &a [1, 2]\nb: *a\nc: *a\n",
        'a: {1: x, "1": y}\n',
    ],
)
def test_anchors_and_merge_keys_are_no_duplicates(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    duplicates.check(path)


def test_the_files_of_a_config_are_checked(tiny, tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("students: {s: {arch: convnet1}}\nstudents: {}\n")
    with pytest.raises(StillhouseError, match=r"other\.yaml: students: duplicate key"):
        complete(tiny, "tiny.yaml, other.yaml", [path])
