"""The recipe of the container: the versions, commands and files of the repository, and no more."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from snakemake_runs import ROOT, Folder

RECIPE = (ROOT / "Containerfile").read_text().replace("\\\n", " ")
MAKEFILE = (ROOT / "Makefile").read_text().replace("\\\n", " ")


def steps(keyword):
    """Return the arguments of the recipe's steps of one kind."""
    return re.findall(rf"^{keyword} (.*)$", RECIPE, re.M)


def copied():
    """Return the copied paths, in the order of the recipe."""
    return [path for step in steps("COPY") for path in step.split()[:-1]]


def uv_commands(text):
    """Return the commands of uv without the options that depend on the place of the environment."""
    commands = re.findall(r"uv (pip (?:sync|install) .*)", text)
    place = r" (--quiet|--no-cache|--system|--python \S+)(?= )"
    return [re.sub(place, "", command) for command in commands if "slurm" not in command]


def test_python_is_that_of_the_other_environments():
    (image,) = steps("FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim", image)[1]
    conda = yaml.safe_load((ROOT / "envs/stillhouse.yaml").read_text())["dependencies"]
    assert f"python={version}" in conda
    assert set(re.findall(r"--python-version (\S+)", MAKEFILE)) == {version}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={version}"


def test_the_commands_are_those_of_make():
    assert uv_commands(RECIPE) == uv_commands(MAKEFILE)
    assert len(uv_commands(RECIPE)) == 2
    assert "uv==" in (ROOT / "envs/requirements.txt").read_text()


def test_it_names_no_host():
    assert "://" not in RECIPE
    assert not re.search(r"index|registry|FROM \S+\.\S+/", RECIPE)


@pytest.mark.workflow
def test_the_copied_files_are_a_complete_workflow(tmp_path):
    for path in map(Path, copied()):
        target = tmp_path / "image" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        if not target.is_dir():
            copy(ROOT / path, target)
    snakefile = tmp_path / "image/Snakefile"
    jobs = Folder(tmp_path / "work", snakefile).jobs(configfile=None)
    assert jobs == Folder(tmp_path / "other").jobs(configfile=None)
    assert jobs["students"] > 1
