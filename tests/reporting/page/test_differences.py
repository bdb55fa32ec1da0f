import math

import pandas as pd
import pytest
from stillhouse.reporting.page import differences

from tests.reporting.fakes import frame


def cells(*accuracies, **changes):
    rows = frame(**changes)
    rows["accuracy"] = rows["accuracy_best"] = accuracies
    return rows


def test_an_interval_is_that_of_the_paired_t_test():
    # By hand: differences 1, 2, 6; mean 3, standard deviation √7; t(0.975, 2) = 4.302653.
    one = differences.paired(cells(61.0, 63.0, 70.0), cells(60.0, 61.0, 64.0))
    half = 4.302653 * math.sqrt(7) / math.sqrt(3)
    assert one.mean == pytest.approx(3.0)
    assert one.low == pytest.approx(3 - half, abs=1e-5)
    assert one.high == pytest.approx(3 + half, abs=1e-5)
    assert one.pairs == 3
    assert one.is_tie


def test_pairing_makes_an_interval_of_a_difference_that_spreads_of_accuracies_would_hide():
    # Accuracies of seeds differ by 20, differences by 0.1.
    one = differences.paired(cells(41.0, 51.1, 61.0), cells(40.0, 50.0, 60.0))
    assert not one.is_tie
    # By hand: 1, 1.1, 1; mean 1.0333, standard deviation 0.057735.
    assert one.low == pytest.approx(1.033333 - 4.302653 * 0.057735 / math.sqrt(3), abs=1e-5)


def test_students_are_paired_by_seed_not_by_order():
    shuffled = cells(40.0, 50.0, 60.0).iloc[[2, 0, 1]]
    one = differences.paired(cells(41.0, 51.0, 61.0), shuffled)
    assert (one.mean, one.low, one.high) == pytest.approx((1.0, 1.0, 1.0))


def test_diverged_students_have_no_pair():
    one = differences.paired(cells(62.0, math.nan, 66.0), cells(60.0, 61.0, 63.0))
    # By hand: differences 2 and 3; t(0.975, 1) = 12.7062, standard error 0.5.
    assert (one.mean, one.pairs) == (2.5, 2)
    assert one.high == pytest.approx(2.5 + 12.7062 * 0.5, abs=1e-4)
    assert differences.paired(cells(*[math.nan] * 3), cells(60.0, 61.0, 63.0)) is None


def test_one_seed_has_a_difference_without_an_interval():
    one = differences.paired(cells(62.0, 1.0, 1.0)[:1], cells(60.0, 1.0, 1.0)[:1])
    assert one.mean == 2.0 and not one.has_interval and not one.is_tie


def test_the_reported_accuracy_is_compared():
    best = cells(60.0, 61.0, 62.0, report="best")
    best["accuracy_best"] += pd.Series([1.0, 1.0, 1.0])
    assert differences.paired(best, cells(60.0, 61.0, 62.0)).mean == 1.0
