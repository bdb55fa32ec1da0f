"""The two descriptions of the environment pin the same versions."""

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
