"""Estimated hours of presets: multiply-adds of networks, and the lines of presets."""

import re
from pathlib import Path

import pytest

from docs import preset_hours

PRESETS = Path(__file__).parents[2] / "workflow/presets"


@pytest.mark.parametrize(
    ("arch", "resolution", "expected"),
    # As torchvision states them; a ConvNet-3 by hand: 3, 128 and 128 maps of 32, 16 and 8 px.
    [
        ("torchvision/resnet18", 224, 1.81e9),
        ("torchvision/mobilenet_v2", 224, 0.30e9),
        ("convnet3", 32, 9 * 128 * (3 * 1024 + 128 * 256 + 128 * 64) + 2048 * 10),
    ],
)
def test_multiply_adds_are_those_of_the_networks(arch, resolution, expected):
    assert preset_hours.forward(arch, 128, resolution) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ["gvbsm-cifar10", "edc-cifar10-ablation", "sre2l-cifar100"])
def test_the_line_of_a_preset_has_its_estimate(name):
    path = PRESETS / f"{name}.yaml"
    line = path.read_text().splitlines()[1]
    hours = float(re.search(r"about ([\d.]+) on one GPU", line)[1])
    assert hours == pytest.approx(sum(preset_hours.estimate(path).values()), rel=0.07)


def test_students_of_a_small_set_take_the_time_of_their_steps():
    # Table 18: six sets, three seeds, 300 epochs of two steps of 50 images.
    path = PRESETS / "edc-cifar10-ablation.yaml"
    hours = preset_hours.estimate(path)
    steps = {"rded": 18 * 600, "batch50": 9 * 2000, "ema": 2 * 9 * 2000, "batch10": 9 * 10000}
    steps |= {"batch25": 9 * 4000 * 4}
    least = sum(steps.values()) * preset_hours.STEP_SECONDS / 3600
    assert least <= hours["students"] < 2 * least
