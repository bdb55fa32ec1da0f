import math

import numpy as np
import pytest
import torch
from stillhouse.training.lr_schedules import learning_rate_factor
from torch import nn


def factor(epoch, epochs, schedule, losses=(), **settings):
    settings = {"schedule": schedule, "epochs": epochs, **settings}
    return learning_rate_factor(settings, epoch, losses)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("one_cycle", [0.04, None, None, None, 0]),
    ],
)
def test_schedules_at_quarters(schedule, values):
    for quarter, value in enumerate(values):
        if value is not None:
            actual = factor(75 * quarter, 300, schedule)
            assert actual == pytest.approx(value, abs=1e-12)


def test_one_cycle_is_torchs():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    # torch's phases end one step early: at 31 - 1 and 101 - 1.
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=101, pct_start=31 / 101, final_div_factor=1e9
    )
    for step in range(100):
        ours = factor(step, 100, "one_cycle")
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-6)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("smoothing", [1, 1.5, 2, 3])
def test_smoothing_stretches_the_cosine(smoothing):
    for epoch in range(0, 301, 25):
        wanted = (1 + math.cos(epoch * math.pi / (smoothing * 300))) / 2
        assert factor(epoch, 300, "cosine", smoothing=smoothing) == pytest.approx(wanted)


def test_ssrs_is_equation_33():
    n, zeta = 60, 2
    for i in range(n + 1):
        if i <= 5 * n / 6:
            wanted = (1 + np.cos(i * np.pi / (zeta * n))) / 2
        else:
            wanted = (1 + np.cos(5 * np.pi / (zeta * 6))) / 2 * (6 * n - 6 * i) / (6 * n)
        assert factor(i, n, "ssrs", smoothing=zeta) == pytest.approx(wanted)
    # It falls to a sixth at once.
    fall = factor(50.01, n, "ssrs", smoothing=2) / factor(50, n, "ssrs", smoothing=2)
    assert fall == pytest.approx(1 / 6, rel=0.01)


@pytest.mark.parametrize("smoothing", [1, 2, 3])
def test_linear_is_torchs(smoothing):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.PolynomialLR(optimizer, smoothing * 300, power=1)
    for epoch in range(301):
        actual = factor(epoch, 300, "linear", smoothing=smoothing)
        assert actual == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_linear_falls_faster_than_the_cosine_it_was_meant_to_be():
    # EDC's code on ImageNet-1k: both end at one half, and differ in between.
    middle = [factor(150, 300, name, smoothing=2) for name in ("linear", "cosine")]
    assert middle == pytest.approx([0.75, (2 + 2**0.5) / 4])
    assert factor(300, 300, "linear", smoothing=2) == factor(300, 300, "cosine", smoothing=2)


@pytest.mark.parametrize("milestones", [[800, 900, 950], [502]])
def test_multistep_is_torchs(milestones):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.5)
    for epoch in range(1000):
        actual = factor(epoch, 1000, "multistep", milestones=milestones, rate_decay=0.5)
        assert actual == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def naive_alrs(losses, decay):
    """Apply the equation in EDC's appendix G.3 to the losses."""
    rate = 1.0
    for i in range(1, len(losses)):
        change = abs(losses[i] - losses[i - 1])
        if change / abs(losses[i]) <= 0.02 and change <= 0.02:
            rate *= decay
    return rate


@pytest.mark.parametrize("scale", [0.01, 1, 5])
def test_alrs_falls_where_the_loss_stays(scale):
    rng = np.random.default_rng(0)
    losses = (scale * (1 + np.cumsum(rng.normal(0, 0.02, 60)))).tolist()
    rates = [factor(e, 60, "alrs", losses[:e], rate_decay=0.9) for e in range(60)]
    assert rates[:2] == [1, 1]
    assert rates == pytest.approx([naive_alrs(losses[:e], 0.9) for e in range(60)])
    assert 0.9**58 < rates[-1] < 0.9**3


def test_alrs_by_hand():
    losses = [1.0, 1.01, 1.2, 1.2, 0.01, 0.0101, 0.0105, 5.0, 5.05]
    falls = [0, 1, 0, 1, 0, 1, 0, 0, 0]
    for n in range(len(losses) + 1):
        assert factor(n, 99, "alrs", losses[:n], rate_decay=0.5) == 0.5 ** sum(falls[:n])
