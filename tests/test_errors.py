"""Messages about unknown names have the nearest name; commands end without a traceback."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse import errors
from stillhouse.errors import (
    StillhouseError,
    UsageError,
    command,
    known,
    ordered_crops,
    suggestion,
)


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


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ValueError("\x1b[1mbold\x1b[0m \x1b]0;title\x07and\nnext\tline"),
            "bold 0;title?and next line",
        ),
        (KeyError(), "KeyError"),
        (OSError("a" * 500), "a" * 199 + "…"),
        ("zero\x00byte", "zero?byte"),
    ],
)
def test_messages_of_libraries_become_one_line(error, text):
    assert errors.one_line(error) == text


@given(st.text())
def test_any_message_becomes_one_printable_line(text):
    line = errors.one_line(text)
    assert line.isprintable() and 0 < len(line) <= 200


def test_names_in_another_unicode_form_are_found():
    composed, divided = "\u00e9lan", "e\u0301lan"
    assert errors.same_in_unicode(composed, ["a", divided]) == divided
    assert errors.same_in_unicode(composed, [composed, "elan"]) is None
    assert "NFC or NFD" in errors.suggestion(composed, [divided])


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (StillhouseError("a.yaml: missing"), 1, "error: a.yaml: missing\n"),
        (UsageError("usage: make a"), 2, "usage: make a\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_command_prints_one_line_at_most(error, status, printed, capsys):
    @command
    def main(arguments):
        raise error

    assert main([]) == status
    assert capsys.readouterr() == ("", printed)


def test_a_command_has_the_status_of_its_function():
    assert command(lambda arguments, more=0: len(arguments) + more)(["a"], more=2) == 3
    assert command(lambda arguments: None)([]) == 0


PRINTING = """
import sys
from stillhouse.errors import command
@command
def main(arguments):
    print("line\\n" * int(arguments[0]))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("n_lines", [1, 100_000])
def test_a_command_ends_without_a_message_when_the_reader_of_its_output_has(n_lines):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-c", PRINTING, str(n_lines)]
    ended = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")
