"""YAML that cannot be read is one line with file and line, within seconds."""

import datetime
import re
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.config import duplicates, yaml_files
from stillhouse.errors import StillhouseError
from stillhouse.planning import verify

BROKEN = {
    "unclosed bracket": ("a: 1\nb: [1, 2\nc: 3\n", 3),
    "unclosed brace": ("a: {b: 1\nc: 2\n", 2),
    "tab": ("a:\n\tb: 1\n", 2),
    "indentation": ("a:\n  b: 1\n c: 2\n", 3),
    "two colons": ("a: 1\nb: c: d\n", 2),
    "unclosed quote": ('a: "1\nb: 2\n', 3),
    "unknown alias": ("a: 1\nb: *c\n", 2),
    "alias within its anchor, list": ("x: 1\na: &a [1, *a]\n", 2),
    "alias within its anchor, mapping": ("x: 1\na: &a\n  b: {c: *a}\n", 2),
    "two documents": ("a: 1\n---\nb: 1\n", 2),
}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_yaml_is_one_line_with_file_and_line(tmp_path, text):
    content, line = BROKEN[text]
    path = tmp_path / "my.yaml"
    path.write_text(content)
    for read in (yaml_files.compose, yaml_files.read, duplicates.check):
        with pytest.raises(StillhouseError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: line {line}")
        assert "\n" not in str(raised.value)


INVALID = {
    "date": ("a: 1\nb: {c: 2024-13-45}\n", 2, 8),
    "date as a key": ("a: 1\n2023-02-29: 1\n", 2, 1),
    "time": ("a: [1, 2024-01-01T25:00:00]\n", 1, 8),
    "tag of an integer": ("a: 1\nb: !!int x\n", 2, 4),
    "tag of a number": ("a: !!float x\n", 1, 4),
    "tag of a truth value": ("a: !!bool perhaps\n", 1, 4),
    "tag of a date": ("a: !!timestamp soon\n", 1, 4),
    "tag without a value": ("a: !!int ''\n", 1, 4),
    "digits": (f"a: {'7' * 5000}\n", 1, 4),
    "alias of a date": ("a: &a 2024-13-45\nb: *a\n", 1, 4),
}


@pytest.mark.parametrize("text", INVALID)
def test_a_value_that_yaml_cannot_convert_is_one_line_with_its_place(tmp_path, text):
    content, line, column = INVALID[text]
    path = tmp_path / "my.yaml"
    path.write_text(content)
    for read in (yaml_files.compose, yaml_files.read, duplicates.check):
        with pytest.raises(StillhouseError) as raised:
            read(path)
        message = str(raised.value)
        assert message.startswith(f"{path}: line {line}, column {column}: ")
        assert message.endswith("; put it in quotes, without a tag")
        assert "\n" not in message and len(message) < 400


def test_values_in_quotes_dates_and_merge_keys_are_read(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("a: '2024-13-45'\nb: &b {c: 2024-12-31, d: 1_000}\ne: {<<: *b}\nf: ~\n")
    values = yaml_files.read(path)
    assert values["a"] == "2024-13-45"
    assert values["e"] == {"c": datetime.date(2024, 12, 31), "d": 1000}


def bomb(depth, width=10):
    """Return text of aliases of aliases, which expand to width ** depth values."""
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [bomb(9), bomb(40), "[" * 10_000, "a: {b: " * 5000])
def test_text_that_expands_or_nests_without_end_is_refused_within_seconds(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    started = time.monotonic()
    with pytest.raises(StillhouseError, match=r"my\.yaml: ") as raised:
        yaml_files.compose(path)
    assert time.monotonic() - started < 5
    assert "\n" not in str(raised.value)


def test_aliases_are_allowed(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(bomb(4) + "\nb: &b {c: 1}\nd: {<<: *b, e: *b}\n")
    assert yaml_files.read(path)["d"] == {"c": 1, "e": {"c": 1}}


def test_a_missing_file_a_folder_and_bytes_are_one_line(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "control.yaml").write_bytes(b"a: \x01\n")
    for name in ("missing.yaml", ".", "bytes.yaml", "control.yaml"):
        with pytest.raises(StillhouseError) as raised:
            yaml_files.compose(tmp_path / name)
        assert "\n" not in str(raised.value) and str(tmp_path / name) in str(raised.value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="ascii"), max_size=5), inner, max_size=3)
    ),
)


@given(PLAIN)
def test_every_other_file_is_read_as_by_yaml(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("yaml") / "x.yaml"
    path.write_text(yaml.safe_dump(values))
    assert yaml_files.read(path) == values


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("yaml") / "x.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        yaml_files.read(path)
    except StillhouseError as error:
        assert re.match(rf"{re.escape(str(path))}: ", str(error))
        assert len(str(error).splitlines()) == 1


def test_verify_names_file_and_line(tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("a: 1\nb: [\n")
    assert verify.main([str(tmp_path / "my.yaml")]) == 1
    assert f"error: {tmp_path / 'my.yaml'}: line 3" in capsys.readouterr().err
