"""Paired differences to the baseline, with confidence intervals over students or over sets."""

import math
from dataclasses import dataclass

CONFIDENCE = 0.95
# Percentage points below which differences are equal.
SAME = 1e-9


@dataclass(frozen=True)
class Difference:
    """A mean difference of accuracies with its confidence interval.

    Parameters
    ----------
    mean, low, high : float
        Percentage points; `low` and `high` are NaN for a single value, and for equal ones but
        zero: with few test images chance makes them equal, and their spread is not zero.
    n : int
        Values: student seeds with an accuracy of both sets, or pairs of sets.
    over : str
        ``students`` of one pair of sets, or ``sets``.
    """

    mean: float
    low: float
    high: float
    n: int
    over: str

    @property
    def has_interval(self):
        """Whether there are enough values for an interval."""
        return not math.isnan(self.low)

    @property
    def is_tie(self):
        """Whether the interval contains zero."""
        return self.has_interval and self.low <= 0 <= self.high

    @property
    def is_above(self):
        """Whether the whole interval is above zero: the set exceeds the baseline."""
        return self.has_interval and self.low > 0

    @property
    def is_below(self):
        """Whether the whole interval is below zero."""
        return self.has_interval and self.high < 0


def over_students(own, other):
    """Return the difference of two sets over their students; None without a pair.

    The students of one seed start from the same weights and differ in nothing but the set, so that
    their difference varies less than both accuracies.

    Parameters
    ----------
    own, other : pandas.Series
        Accuracies by student seed [%]. Diverged students have none, and no pair.

    Returns
    -------
    Difference or None
    """
    gains = (own - other).dropna()
    return _difference(gains, "students") if len(gains) else None


def over_sets(pairs):
    """Return the difference of a method to the baseline over distilled sets; None without a pair.

    The value of a pair of sets is the mean over its students, paired by seed.

    Parameters
    ----------
    pairs : list of (pandas.Series, pandas.Series)
        Accuracies by student seed [%] of a set and the baseline's set, one pair per distill seed.

    Returns
    -------
    Difference or None
    """
    import pandas as pd

    means = [(own - other).dropna().mean() for own, other in pairs]
    gains = pd.Series(means, dtype=float).dropna()
    return _difference(gains, "sets") if len(gains) else None


def _difference(gains, over):
    """Return mean(d) ± t(0.975, n - 1) std(d) / √n of values d, by Student's t, std with n - 1."""
    n, mean = len(gains), float(gains.mean())
    if n == 1 or (mean and gains.max() - gains.min() < SAME):
        return Difference(mean, math.nan, math.nan, n, over)
    from scipy import stats

    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    half = float(quantile * gains.std(ddof=1) / math.sqrt(n))
    return Difference(mean, mean - half, mean + half, n, over)
