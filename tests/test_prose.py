"""The check of wordings reports banned words and vague variables, and no others."""

import pytest

from tests import prose


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Tables are made anew.", ["anew"]),
        ("The file is not there, the artifact is whole", ["not there", "is whole"]),
        ("One row a cell, images a step", ["row a cell", "images a step"]),
        ("the paper says nothing, networks see images", ["paper says", "networks see"]),
        ('"""Refuse a config."""', ['"""Refuse']),
        ("Whether or not there is one, images are complete.", []),
        ("Two images per class and one image of a class; say, the plan of a stage", []),
        ("A quotation that the paper says  # prose: keep", []),
    ],
)
def test_banned_words_are_reported(line, words):
    assert sorted(match for _, match, _ in prose.wordings(line)) == sorted(words)


def test_lines_are_numbered_from_one():
    (match,) = prose.wordings("first\nanew\n")
    assert match[0] == 2


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("found = 1", ["found"]),
        ("def f(given, size):\n    return size", ["given"]),
        ("for one in range(3):\n    pass", ["one"]),
        ("rows = [one for one in range(3)]", []),
        ("rows = [\n    one\n    for one in range(3)\n]", ["one"]),
        ("order = sorted([], key=lambda one: -one)", []),
        ("row.found = given.some", []),
    ],
)
def test_vague_variables_are_reported(code, names):
    assert [name for _, name, _ in prose.vague_variables(code)] == names
