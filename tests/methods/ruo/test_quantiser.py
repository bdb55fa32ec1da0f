"""Soft rounding and its noise."""

import numpy as np
import pytest
import torch
from scipy import stats
from stillhouse.methods.ruo import quantiser


def test_soft_rounding_is_the_identity_when_hot_and_rounding_when_cold():
    x = torch.tensor([-1.3, -0.5, -0.2, 0.2, 0.49, 0.8, 2.0, 2.6])
    torch.testing.assert_close(quantiser.soft_round(x, 30.0), x, atol=1e-3, rtol=0)
    away = x[(x - x.round()).abs() < 0.45]
    torch.testing.assert_close(quantiser.soft_round(away, 0.02), away.round(), atol=1e-3, rtol=0)


def test_soft_rounding_keeps_integers_and_halves():
    x = torch.arange(-6, 7) / 2
    torch.testing.assert_close(quantiser.soft_round(x, 0.3), x, atol=1e-6, rtol=0)


def test_soft_rounding_has_the_gradient_of_its_formula():
    x = torch.linspace(-2.9, 2.9, 30, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda values: quantiser.soft_round(values, 0.3), x)


@pytest.mark.parametrize("a", [1.0, 1.5, 2.0])
def test_noise_has_kumaraswamy_s_distribution(a):
    drawn = quantiser.noise(20000, "kumaraswamy", a, (0, "test")).numpy() + 0.5
    b = (2**a * (a - 1) + 1) / a
    assert stats.kstest(drawn, lambda x: 1 - (1 - x**a) ** b).pvalue > 0.001
    if a > 1:  # the mode, where the derivative of the density vanishes
        mode = ((a - 1) / (a * b - 1)) ** (1 / a)
        assert mode == pytest.approx(0.5)


def test_noise_has_a_normal_distribution():
    drawn = quantiser.noise(20000, "gaussian", 0.25, (0, "test")).numpy()
    assert stats.kstest(drawn, stats.norm(0, 0.25).cdf).pvalue > 0.001


def test_noise_depends_on_its_key_alone():
    first = quantiser.noise(10, "gaussian", 0.25, (0, "test", "", (1, 2)))
    quantiser.noise(10, "gaussian", 0.25, (0, "test", "", (1, 3)))
    again = quantiser.noise(10, "gaussian", 0.25, (0, "test", "", (1, 2)))
    assert first.tolist() == again.tolist()
    assert len(np.unique(first)) == 10


def test_rounding_multiplies_by_the_gain():
    latents = torch.tensor([0.04, -0.02, 1.0])
    assert quantiser.hard_round(latents).tolist() == [1.0, 0.0, 16.0]
