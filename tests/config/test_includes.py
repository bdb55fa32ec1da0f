"""Files that a config includes: order, paths, errors."""

import pytest
import yaml
from stillhouse.config import includes
from stillhouse.config.load import complete, located
from stillhouse.errors import StillhouseError


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_a_part_in_a_file_is_the_same_as_written_out(tiny, tmp_path):
    own = {name: section for name, section in tiny.items() if name not in ("sources", "students")}
    write(tmp_path / "shared/data.yaml", {"sources": tiny["sources"]})
    write(tmp_path / "shared/networks.yaml", {"students": tiny["students"]})
    own["include"] = ["shared/data.yaml", "shared/networks.yaml"]
    path = write(tmp_path / "own.yaml", own)
    assert complete(own, "own.yaml", [path]) == complete(tiny, "tiny.yaml")


def test_the_config_precedes_and_later_parts_precede_earlier_ones():
    first = {"teachers": {"t": {"arch": "a", "epochs": 1, "crop": [0.1, 1]}, "u": {"arch": "u"}}}
    second = {"teachers": {"t": {"arch": "b", "epochs": 2}}}
    config = {"include": ["x"], "teachers": {"t": {"arch": "c", "crop": [0.5, 1]}}}
    merged = includes.merged(config, [first, second])
    assert merged == {
        "teachers": {"t": {"arch": "c", "epochs": 2, "crop": [0.5, 1]}, "u": {"arch": "u"}}
    }
    assert first["teachers"]["t"]["arch"] == "a" and config["include"] == ["x"]


def test_paths_are_relative_to_the_file_that_includes(tmp_path):
    part = write(tmp_path / "a/x.yaml", {"students": {}})
    files = [write(tmp_path / "a/one.yaml", {"include": ["x.yaml"]})]
    files.append(write(tmp_path / "b/two.yaml", {"include": ["../a/x.yaml"]}))
    found = includes.included(files)
    assert {path.resolve() for path in found} == {part}
    assert next(iter(found.values())) == {"students": {}}


REFUSED = {
    "text": ({"include": "x.yaml"}, "must be a list of files; write it as one"),
    "numbers": ({"include": [1]}, "must be a list of files; write it as one"),
    "missing": (
        {"include": ["y.yaml"]},
        "file not found: y.yaml; paths are relative to its folder",
    ),
    "folder": ({"include": ["."]}, "file not found: .; paths are relative to its folder"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_include_is_one_line(tmp_path, content, message):
    path = write(tmp_path / "own.yaml", content)
    with pytest.raises(StillhouseError) as caught:
        includes.included([path])
    assert str(caught.value) == f"{path}: include: {message}"


def test_an_included_file_cannot_include(tmp_path):
    part = write(tmp_path / "part.yaml", {"include": ["other.yaml"]})
    path = write(tmp_path / "own.yaml", {"include": ["part.yaml"]})
    with pytest.raises(StillhouseError) as caught:
        includes.included([path])
    assert str(caught.value) == (
        f"{part}: include: must not be in an included file; name its files in {path}"
    )


def test_a_part_must_be_a_mapping(tmp_path):
    part = write(tmp_path / "part.yaml", "- a\n")
    path = write(tmp_path / "own.yaml", {"include": ["part.yaml"]})
    with pytest.raises(StillhouseError, match=r"must be a mapping of sections") as caught:
        includes.included([path])
    assert str(caught.value).startswith(str(part))


def test_errors_name_the_included_files_too(tmp_path):
    write(tmp_path / "part.yaml", {"datasets": {}})
    path = write(tmp_path / "own.yaml", {"include": ["part.yaml"]})
    expected = pytest.raises(StillhouseError, match=r"^own\.yaml, part\.yaml: d: wrong$")
    with expected, located("own.yaml", [path]):
        raise StillhouseError("d: wrong")


def test_a_list_on_the_command_line_is_refused(tiny):
    with pytest.raises(StillhouseError) as caught:
        complete({**tiny, "include": ["x.yaml"]}, "--config")
    assert (
        str(caught.value)
        == "--config: include: must be in a file that includes others; write it there"
    )


def test_messages_name_the_included_files(tiny, tmp_path):
    write(tmp_path / "part.yaml", {"students": {"other": {"arch": "nothing"}}})
    path = write(tmp_path / "own.yaml", {**tiny, "include": ["part.yaml"]})
    with pytest.raises(StillhouseError, match=r"^own\.yaml, part\.yaml: students\.other\.arch: "):
        complete({**tiny, "include": ["part.yaml"]}, "own.yaml", [path])


def test_duplicate_keys_of_a_part_are_an_error(tiny, tmp_path):
    part = write(tmp_path / "part.yaml", "students: {a: {arch: convnet1}}\nstudents: {}\n")
    path = write(tmp_path / "own.yaml", {"include": ["part.yaml"]})
    with pytest.raises(StillhouseError, match="students: duplicate key") as caught:
        complete(tiny, "own.yaml", [path])
    assert str(part) in str(caught.value)
