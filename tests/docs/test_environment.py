"""The descriptions of the environment pin the same versions."""

import re
import runpy

import yaml

from tests.snakemake_runs import ROOT


def test_the_conda_file_pins_every_requirement():
    requirements = (ROOT / "envs/requirements.txt").read_text()
    environment = yaml.safe_load((ROOT / "envs/stillhouse.yaml").read_text())
    pins = [pin.split(" ;")[0] for pin in environment["dependencies"][-1]["pip"]]
    assert pins == re.findall(r"^(\S+==\S+)", requirements, re.M)
    assert "torch" in {pin.split("==")[0] for pin in pins}


def test_the_conda_file_is_the_generated_one():
    generate = runpy.run_path(str(ROOT / "envs/conda_env.py"))["conda_env"]
    requirements = (ROOT / "envs/requirements.txt").read_text()
    assert (ROOT / "envs/stillhouse.yaml").read_text() == generate(requirements)


def test_the_plugin_of_slurm_goes_with_the_environment():
    pins = dict(pinned("envs/requirements.txt"))
    for name, version in pinned("envs/slurm.txt"):
        assert pins.setdefault(name, version) == version
    text = (ROOT / "envs/slurm.txt").read_text()
    assert "snakemake-executor-plugin-slurm==" in text
    assert text.count("--hash=sha256:") >= len(pinned("envs/slurm.txt"))
    assert "://" not in text


def pinned(path):
    """Return (package with its marker, version) of a file of requirements."""
    lines = re.findall(r"^(\S+)==([^\s;]+)(?: ; ([^\\\n]+))?", (ROOT / path).read_text(), re.M)
    return [(f"{name} {marker.strip()}", version) for name, version, marker in lines]
