"""The recipe of the container: the versions, commands and files of the repository, and no more."""

import re
import shutil
import subprocess
import sys
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


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Copy what the recipe copies; return the folder."""
    folder = tmp_path_factory.mktemp("image")
    for path in map(Path, copied()):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        if not target.is_dir():
            copy(ROOT / path, target)
    return folder


@pytest.mark.workflow
def test_the_copied_files_are_a_complete_workflow(image, tmp_path):
    jobs = Folder(tmp_path / "work", image / "Snakefile").jobs(configfile=None)
    assert jobs == Folder(tmp_path / "other").jobs(configfile=None)
    assert jobs["students"] > 1


# What jobs read beside the package's modules, which a dry run does not.
READ = {
    "papers": "from stillhouse.reporting.papers import of_kinds as read; read(['random', 'rded'])",
    "card": "from stillhouse.export.card import TEMPLATE; TEMPLATE.read_text()",
    "page": "from stillhouse.reporting.page.overview import TEMPLATES; next(TEMPLATES.iterdir())",
}


@pytest.mark.parametrize("code", READ.values(), ids=READ)
def test_the_copied_files_have_what_jobs_read(image, tmp_path, code):
    own = f"import stillhouse; assert stillhouse.__file__.startswith({str(image)!r})"
    subprocess.run(
        [sys.executable, "-c", f"{own}; {code}"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(image / "workflow")},
        check=True,
    )
