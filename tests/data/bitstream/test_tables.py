"""Integer tables against the distributions that they stand for."""

import math

import numpy as np
import pytest
from scipy import stats
from stillhouse.data.bitstream import tables

TOTAL = 2**tables.PRECISION


def test_all_counts_are_positive_and_sum_to_the_total():
    counts = np.diff(tables.all_tables())
    assert counts.min() >= 1
    assert (counts.sum(1) == TOTAL).all()


@pytest.mark.parametrize("scale", [tables.LOWEST, -8, 0, 13, tables.HIGHEST])
@pytest.mark.parametrize("mean", [-8, -3, 0, 7])
def test_values_have_the_probabilities_of_a_laplace_distribution(scale, mean):
    counts = np.diff(tables.all_tables()[tables.laplace_row(scale, mean)])
    laplace = stats.laplace(mean / tables.MEAN_STEPS, math.exp(scale / tables.SCALE_STEPS))
    edges = np.arange(tables.FIRST, tables.LAST + 2) - 0.5
    expected = np.diff(np.concatenate([[0], laplace.cdf(edges), [1]]))
    np.testing.assert_allclose(counts / TOTAL, expected, atol=70 / TOTAL)


@pytest.mark.parametrize("scale", [-8, 13, tables.HIGHEST])
def test_an_excess_has_the_conditional_probabilities_of_the_tail(scale):
    counts = np.diff(tables.all_tables()[tables.geometric_row(scale)])
    laplace = stats.laplace(0, math.exp(scale / tables.SCALE_STEPS))
    edges = tables.LAST + 0.5 + np.arange(tables.SYMBOLS)
    tail = laplace.sf(edges) / laplace.sf(edges[0])
    expected = np.append(tail[:-1] - tail[1:], tail[-1])
    np.testing.assert_allclose(counts / TOTAL, expected, atol=70 / TOTAL)


def test_tables_are_the_same_on_every_machine():
    # Recorded: another value means that files of other machines decode to noise.
    weights = np.arange(1, tables.all_tables().size + 1, dtype=np.uint64).reshape(-1, 65)
    checksum = int((tables.all_tables().astype(np.uint64) * weights).sum(dtype=np.uint64))
    assert checksum == CHECKSUM


CHECKSUM = 33233894364522154
