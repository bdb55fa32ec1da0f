"""``python -m stillhouse.export``: arguments, licences, messages."""

import copy
from pathlib import Path

import pytest
import yaml
from stillhouse.export import __main__ as command

from tests.export.conftest import config
from tests.export.test_dataset import front_matter


@pytest.fixture
def configfile(tmp_path):
    """Return a function that writes a config, changed by a function; it returns the path."""

    def write(change=lambda config: None):
        values = copy.deepcopy(config())
        del values["methods"]["learned"], values["experiments"]["own"], values["protocols"]["own"]
        del values["labels"]["own"]
        values["experiments"]["hard"]["methods"].remove("learned")
        change(values)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


def export(out, *further, target="results/distilled/three/jpeg-*/ipc1-seed0"):
    """Run the command; return its exit status."""
    return command.main([target, str(out), *further])


def test_a_set_is_exported_by_a_pattern(results, tmp_path, capsys):
    assert export(tmp_path / "out") == 0
    line = f"{tmp_path}/out: images, soft_labels; licence of the images: unknown\n"
    assert capsys.readouterr().out == line


def test_the_licence_is_that_of_the_source_in_the_config(results, tmp_path, configfile):
    assert export(tmp_path / "out", configfile()) == 0
    assert front_matter(tmp_path / "out")["license"] == "cc-by-4.0"


def rename(config):
    config["sources"]["other"] = config["sources"].pop("digits")
    config["datasets"]["three"]["source"] = "other"


def other_images(config):
    config["sources"]["digits"]["holdout"] = 0.5


@pytest.mark.parametrize("change", [rename, other_images])
def test_a_config_of_another_source_does_not_state_the_licence(
    results, tmp_path, configfile, change
):
    assert export(tmp_path / "out", configfile(change)) == 0
    assert front_matter(tmp_path / "out")["license"] == "unknown"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/distilled/three/*/ipc1-seed0", "matches 5 artifacts; give one, such as "),
        ("results/distilled/three", "spec.json missing; give the path of an artifact's folder"),
        ("results/distilled/nothing-*", "no such artifact"),
    ],
)
def test_wrong_targets_are_one_line(results, tmp_path, capsys, target, message):
    assert export(tmp_path / "out", target=target) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: results/distilled/") and message in line


def test_an_invalid_config_is_one_line(results, tmp_path, capsys, configfile):
    path = configfile(lambda config: config["sources"]["digits"].update(license=[]))
    assert export(tmp_path / "out", path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "sources.digits.license" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["", "out"], ["a"], ["--archive"], ["--other", "x"], ["a", "b", "c", "d"]]
)
def test_wrong_arguments_print_the_usage(arguments, capsys):
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: make export TARGET=")


def test_archives_and_events_are_options(results, tmp_path, capsys):
    assert command.main(["--archive", str(tmp_path / "out.tar")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/out.tar: ")
    assert Path(tmp_path / "out.tar").stat().st_size > 10_000
