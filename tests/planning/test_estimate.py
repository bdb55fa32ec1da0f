"""Estimated cost of configs: sums over a plan, and the lines of presets."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stillhouse.planning import estimate
from stillhouse.planning.plan import of_file
from stillhouse.planning.resources import GPU

PRESETS = Path(__file__).parents[2] / "workflow/presets"
HOURS = re.compile(r"about ([\d.]+) on one GPU")
STATED = [p.stem for p in sorted(PRESETS.glob("*.yaml")) if HOURS.search(p.read_text())]
# Of a second each; all others are left to a release.
FAST = {"gvbsm-cifar10", "edc-cifar10-ablation", "sre2l-cifar100", "ruo-cifar10"}


def hours(name):
    """Return {stage: hours} of a preset."""
    costs = estimate.estimate(of_file(PRESETS / f"{name}.yaml"))
    return {stage: cost.seconds / 3600 for stage, cost in costs.items()}


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=[] if one in FAST else pytest.mark.slow) for one in STATED],
)
def test_the_line_of_a_preset_has_its_estimate(name):
    line = (PRESETS / f"{name}.yaml").read_text().splitlines()[1]
    stated = float(HOURS.search(line)[1])
    assert stated == pytest.approx(sum(hours(name).values()), rel=0.07)


def test_students_of_a_small_set_take_the_time_of_their_steps():
    # Table 18: six sets, three seeds, 300 epochs of two steps of 50 images.
    steps = {"rded": 18 * 600, "batch50": 9 * 2000, "ema": 2 * 9 * 2000, "batch10": 9 * 10000}
    steps |= {"batch25": 9 * 4000 * 4}
    least = sum(steps.values()) * GPU.step_seconds / 3600
    assert least <= hours("edc-cifar10-ablation")["students"] < 2 * least


def test_jobs_are_blocks_and_artifacts(planned, tiny):
    plan = planned(tiny)
    costs = estimate.estimate(plan)
    assert costs["images"].jobs == 1
    assert costs["students"].jobs == 8  # two methods, two IPCs, two protocols
    tiny["compute"] = {"seeds_per_job": 1}
    several = estimate.estimate(planned(tiny))
    assert several["students"].jobs == 16
    assert several["students"].seconds == pytest.approx(costs["students"].seconds)


def test_hours_are_those_of_all_gpus_of_a_job(planned, tiny):
    costs = estimate.estimate(planned(tiny))
    tiny["compute"] = {"processes": 4}
    several = estimate.estimate(planned(tiny))
    # A small network, whose steps take the same time on fewer images: three GPUs save nothing.
    assert several["teacher"].seconds == pytest.approx(4 * costs["teacher"].seconds)
    assert several["students"].seconds == costs["students"].seconds


@pytest.mark.parametrize(
    "name", ["digits-scores", "digits-label-rates", "digits-cda", "ruo-cifar10"]
)
def test_every_stage_of_a_preset_has_an_estimate(name):
    """With full data, seeded views, integers of few bits, a curriculum and whitening."""
    costs = estimate.estimate(of_file(PRESETS / f"{name}.yaml"))
    assert {stage for stage, cost in costs.items() if not cost.seconds} == {"dataset"}


def test_the_command_prints_a_line_per_stage_and_the_total(capsys):
    assert estimate.main([str(PRESETS / "gvbsm-cifar10.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = {line.split()[0] for line in lines[1:-2]}
    assert stages == set(hours("gvbsm-cifar10"))
    assert lines[-2].startswith("total")
    assert estimate.main([str(PRESETS / "missing.yaml")]) == 1
    assert "missing.yaml" in capsys.readouterr().err
    assert estimate.main([""]) == 2


def test_make_is_silent_when_the_reader_of_its_output_has_ended():
    reader, writer = os.pipe()
    os.close(reader)
    root, preset = PRESETS.parents[1], PRESETS / "gvbsm-cifar10.yaml"
    command = ["make", "-C", root, f"BIN={Path(sys.executable).parent}", "estimate"]
    options = {"stdout": writer, "stderr": subprocess.PIPE, "check": False}
    ended = subprocess.run([*command, "-s", f"CONFIG={preset}"], **options)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")
