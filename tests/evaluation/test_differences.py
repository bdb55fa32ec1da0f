import math

import pandas as pd
import pytest
from stillhouse.evaluation import differences


def students(*accuracies, seeds=None):
    return pd.Series(accuracies, index=seeds or range(len(accuracies)), dtype=float)


def test_an_interval_is_that_of_the_paired_t_test():
    # By hand: differences 1, 2, 6; mean 3, standard deviation √7; t(0.975, 2) = 4.302653.
    one = differences.over_students(students(61, 63, 70), students(60, 61, 64))
    half = 4.302653 * math.sqrt(7) / math.sqrt(3)
    assert one.mean == pytest.approx(3.0)
    assert one.low == pytest.approx(3 - half, abs=1e-5)
    assert one.high == pytest.approx(3 + half, abs=1e-5)
    assert (one.n, one.over) == (3, "students")
    assert one.is_tie and not one.is_above and not one.is_below


def test_pairing_makes_an_interval_of_a_difference_that_spreads_of_accuracies_would_hide():
    # Accuracies of seeds differ by 20, differences by 0.1.
    one = differences.over_students(students(41.0, 51.1, 61.0), students(40, 50, 60))
    assert one.is_above and not one.is_tie
    # By hand: 1, 1.1, 1; mean 1.0333, standard deviation 0.057735.
    assert one.low == pytest.approx(1.033333 - 4.302653 * 0.057735 / math.sqrt(3), abs=1e-5)
    assert differences.over_students(students(40, 50, 60), students(41, 51.1, 61)).is_below


def test_students_are_paired_by_seed_not_by_order():
    shuffled = students(60, 40, 50, seeds=[2, 0, 1])
    one = differences.over_students(students(41, 51, 61.5), shuffled)
    # By hand: 1, 1, 1.5.
    assert one.mean == pytest.approx(7 / 6)
    assert one.high - one.mean == pytest.approx(
        4.302653 * math.sqrt(1 / 12) / math.sqrt(3), abs=1e-5
    )


def test_diverged_students_have_no_pair():
    one = differences.over_students(students(62, math.nan, 66), students(60, 61, 63))
    # By hand: differences 2 and 3; t(0.975, 1) = 12.7062, standard error 0.5.
    assert (one.mean, one.n) == (2.5, 2)
    assert one.high == pytest.approx(2.5 + 12.7062 * 0.5, abs=1e-4)
    assert differences.over_students(students(*[math.nan] * 3), students(60, 61, 63)) is None


def test_one_seed_has_a_difference_without_an_interval():
    one = differences.over_students(students(62), students(60))
    assert one.mean == 2.0
    assert not (one.has_interval or one.is_tie or one.is_above or one.is_below)


def test_equal_differences_have_no_interval_but_those_of_equal_sets():
    """As of three students with one more of twelve test images: their spread is not zero."""
    one = differences.over_students(students(50.0, 58.33, 41.67), students(41.67, 50.0, 33.34))
    assert one.mean == pytest.approx(8.33)
    assert not (one.has_interval or one.is_tie or one.is_above or one.is_below)
    assert differences.over_students(students(1, 2), students(1, 2)).is_tie


def test_an_interval_over_sets_is_of_their_means_not_of_all_students():
    # By hand: means of the pairs' differences 2 and 4; mean 3, standard error 1, t(0.975, 1).
    pairs = [
        (students(61, 63), students(60, 60)),
        (students(70, 68), students(65, 65)),
    ]
    one = differences.over_sets(pairs)
    assert (one.mean, one.n, one.over) == (3.0, 2, "sets")
    assert one.low == pytest.approx(3 - 12.7062, abs=1e-4)
    assert one.high == pytest.approx(3 + 12.7062, abs=1e-4)


def test_a_set_whose_students_all_diverged_has_no_part_in_an_interval_over_sets():
    lost = (students(math.nan), students(60))
    one = differences.over_sets([(students(61), students(60)), lost, (students(62), students(60))])
    assert (one.mean, one.n) == (1.5, 2)
    assert differences.over_sets([lost]) is None
