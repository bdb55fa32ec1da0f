"""Paired differences to the baseline: mean over student seeds, with a confidence interval."""

import math
from dataclasses import dataclass

from stillhouse.reporting import table_layout

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean difference of accuracies with its confidence interval.

    Parameters
    ----------
    mean, low, high : float
        Percentage points; `low` and `high` are NaN for a single pair.
    pairs : int
        Student seeds with an accuracy of both sets.
    """

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def has_interval(self):
        """Whether there are enough pairs for an interval."""
        return not math.isnan(self.low)

    @property
    def is_tie(self):
        """Whether the interval contains zero."""
        return self.has_interval and self.low <= 0 <= self.high


def paired(cells, baseline):
    """Return the paired difference of a distilled set to the baseline; None without a pair.

    The students of one seed start from the same weights and differ in nothing but the set, so that
    their difference d varies less than both accuracies. The interval is that of Student's t over n
    pairs: mean(d) ± t(0.975, n - 1) std(d) / √n, with the standard deviation of n - 1.

    Parameters
    ----------
    cells, baseline : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read` of two sets under one protocol, one per student
        seed. Diverged students have no accuracy and no pair.

    Returns
    -------
    Difference or None
    """
    from scipy import stats

    own, other = (
        table_layout.reported_accuracy(rows).set_axis(rows["seed"]) for rows in (cells, baseline)
    )
    gains = (own - other).dropna()
    n, mean = len(gains), float(gains.mean())
    if not n:
        return None
    if n == 1:
        return Difference(mean, math.nan, math.nan, n)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    half = float(quantile * gains.std(ddof=1) / math.sqrt(n))
    return Difference(mean, mean - half, mean + half, n)
