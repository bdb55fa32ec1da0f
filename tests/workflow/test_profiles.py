"""The profile of Slurm: what it shares with the default, and what its comments do."""

import re

import pytest
import yaml
from snakemake_runs import ROOT

pytestmark = pytest.mark.workflow


def text(name):
    """Return the text of a profile."""
    return (ROOT / f"profiles/{name}/profile.yaml").read_text()


def test_the_profile_of_slurm_has_the_keys_of_the_default():
    own = yaml.safe_load(text("slurm"))
    assert own == own | yaml.safe_load(text("default"))


def test_filled_in_lines_of_the_profile_of_slurm_reach_the_jobs(folder):
    """Without the keys of the plugin, which need not be installed."""
    filled = re.sub(r"^  # (?=slurm_)", "  ", text("slurm"), flags=re.M)
    filled = re.sub(r"^# (?=set-resources:|  students:)", "", filled, flags=re.M)
    filled = re.sub(r"^# (?=  teacher: .*runtime)", "", filled, flags=re.M)
    filled = re.sub(r"^#   teacher: (?=.*gres)", "  labels: ", filled, flags=re.M)
    filled = re.sub(r"^(executor|slurm-).*\n", "", filled, flags=re.M)
    (folder / "profile.yaml").write_text(filled)
    jobs = folder.plan("--workflow-profile", folder / "profile.yaml")
    resources = {job.rule: job.resources.split(", ") for job in jobs}
    asked = ["mem_mb=16000", "runtime=720", "slurm_partition=gpu-long", "gpu_model=a100"]
    assert set(resources["teacher"]) >= {*asked, "slurm_account=my-account"}
    assert set(resources["labels"]) >= {"gpu=0", "gres=gpu:1", "slurm_partition=my-partition"}
    assert "slurm_extra=--exclude=node7" in resources["students"]
