import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from stillhouse.methods.d3hr.normality import Moments, kurtosis_score, normality, skewness_score


def skewed(n=500, d=6, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 1.5, (n, d)) * np.arange(1, d + 1)


def gathered(values, cuts=()):
    moments = Moments()
    for part in np.split(values, sorted(cuts)):
        moments.add(part)
    return moments


def naive(values):
    return {
        "mean": values.mean(0),
        "variance": values.var(0, ddof=1),
        "skewness": stats.skew(values),
        "kurtosis": stats.kurtosis(values, fisher=False),
    }


def agree(moments, expected, tolerance=1e-10):
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(moments, name), values, rtol=tolerance, err_msg=name)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 500), max_size=6), st.integers(0, 99))
def test_moments_do_not_depend_on_batches_and_order(cuts, seed):
    values = skewed()
    order = np.random.default_rng(seed).permutation(len(values))
    moments = gathered(values[order], cuts)
    assert moments.count == 500
    agree(moments, naive(values))


def test_moments_of_single_vectors_are_merged():
    agree(gathered(skewed(), range(1, 500)), naive(skewed()))


def test_a_large_offset_does_not_cancel():
    # Multiples of 2⁻²⁰ stay exact under the offset: only rounding in the computation differs.
    values = np.round(skewed() * 2**20) / 2**20
    moments = gathered(values + 2.0**30, [7, 90, 91])
    expected = naive(values)
    agree(moments, {**expected, "mean": expected["mean"] + 2.0**30})


def test_float32_tensors_are_added_up_in_float64():
    values = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)) * 3 + 50
    moments = Moments()
    for part in values.split(64):
        moments.add(part)
    agree(moments, naive(values.double().numpy()))


def test_batches_are_not_changed_and_the_state_continues():
    values = skewed()
    before = values.copy()
    moments = gathered(values[:200])
    again = Moments(moments.count, moments.origin.copy(), moments.sums.copy())
    again.add(values[200:])
    agree(again, naive(values))
    agree(moments, naive(values[:200]))
    assert (values == before).all()


def test_undefined_moments_are_nan():
    moments = gathered(np.ones((1, 3)))
    assert np.isnan(moments.variance).all() and np.isnan(moments.skewness).all()
    values = skewed()
    values[:, 2] = 4
    moments = gathered(values, [100])
    assert moments.variance[2] == 0 and np.isnan(moments.kurtosis[2])


@pytest.mark.parametrize("n", [20, 57, 400])
@pytest.mark.parametrize("shape", ["normal", "uniform", "gamma"])
def test_scores_are_those_of_scipy(n, shape):
    rng = np.random.default_rng(n)
    values = {
        "normal": rng.normal(size=(n, 40)),
        "uniform": rng.random((n, 40)),
        "gamma": rng.gamma(1.0, size=(n, 40)),
    }[shape]
    moments = gathered(values, [11])
    expected = stats.skewtest(values).statistic
    np.testing.assert_allclose(skewness_score(moments.skewness, n), expected, rtol=1e-9)
    expected = stats.kurtosistest(values).statistic
    np.testing.assert_allclose(kurtosis_score(moments.kurtosis, n), expected, rtol=1e-9)
    result = normality(moments)
    assert result["normal_share"] == (stats.normaltest(values).pvalue >= 0.05).mean()
    assert result["skewness"] == pytest.approx(np.abs(stats.skew(values)).mean())
    assert result["kurtosis"] == pytest.approx(stats.kurtosis(values, fisher=False).mean())


def test_normal_dimensions_pass_at_the_level():
    values = np.random.default_rng(1).normal(size=(500, 4000))
    assert normality(gathered(values))["normal_share"] == pytest.approx(0.95, abs=0.015)


def test_normality_of_few_vectors_and_of_dimensions_without_spread():
    nothing = {"skewness": None, "kurtosis": None, "normal_share": None}
    assert normality(Moments()) == nothing
    assert normality(gathered(np.ones((1, 3)))) == nothing
    assert normality(gathered(np.ones((30, 3)))) == nothing
    few = normality(gathered(skewed(19)))
    assert few["normal_share"] is None and few["skewness"] > 0
    values = skewed()
    values[:, 0] = 1
    actual, wanted = normality(gathered(values)), normality(gathered(values[:, 1:]))
    assert actual == wanted and all(map(math.isfinite, actual.values()))


def test_an_empty_batch_adds_nothing():
    moments = gathered(skewed(), [0, 0, 500])
    assert moments.count == 500
    agree(moments, naive(skewed()))
