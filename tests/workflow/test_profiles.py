"""Profiles: what they share, and what they ask for."""

import yaml
from snakemake_runs import ROOT
from stillhouse.methods.registry import stages


def profile(name):
    """Return the keys of a profile."""
    return yaml.safe_load((ROOT / f"profiles/{name}/profile.yaml").read_text())


def test_the_profile_of_slurm_has_the_keys_of_the_default():
    own = profile("slurm")
    assert own == own | profile("default")


def test_the_comments_of_the_profile_of_slurm_become_settings():
    text = (ROOT / "profiles/slurm/profile.yaml").read_text()
    for key in ("slurm_account", "slurm_partition", "set-resources"):
        assert f"# {key}:" in text
    lines = text.replace("  # slurm_", "  slurm_").splitlines()
    opened = [
        line[2:] if line.startswith(("# set-", "#   teacher: {mem", "#   stud")) else line
        for line in lines
    ]
    settings = yaml.safe_load("\n".join(opened))
    assert settings["default-resources"]["slurm_account"] == "my-account"
    assert settings["set-resources"].keys() <= stages().keys()
