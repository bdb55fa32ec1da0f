"""Central moments of many vectors, batch by batch, and tests of normality.

Batches are merged by the pairwise formulas of Chan, Golub and LeVeque (1979), for orders 3 and 4
those of Pébay, "Formulas for robust, one-pass parallel computation of covariances and
arbitrary-order statistical moments" (Sandia, 2008). The test of normality is that of D'Agostino
and Pearson (1973).
"""

from dataclasses import dataclass

import numpy as np

# With fewer samples, the distribution of the kurtosis is too far from normal for the test.
MIN_TESTED = 20
LEVEL = 0.05


@dataclass
class Moments:
    """Moments up to order 4 of each of d dimensions, in float64, in one pass.

    Parameters
    ----------
    count : int
        Number of vectors added.
    origin : (d,) float64 array or None
        The first vector, subtracted from all, so that a large offset loses no precision.
    sums : (4, d) float64 array or None
        Mean minus `origin`, and the sums of the second to fourth powers of the deviations from the
        mean. The three fields are the complete state: `Moments(count, origin, sums)` restores it.
    """

    count: int = 0
    origin: np.ndarray | None = None
    sums: np.ndarray | None = None

    def add(self, batch):
        """Add vectors, (n, d) of any float type, NumPy's or torch's on the CPU."""
        batch = np.asarray(batch, dtype=np.float64)
        if len(batch) == 0:
            return
        if self.origin is None:
            self.origin = batch[0].copy()
        batch = batch - self.origin
        mean = batch.mean(0)
        batch -= mean
        powers = [batch**2]
        powers += [powers[0] * batch, powers[0] ** 2]
        sums = np.stack([mean, *(power.sum(0) for power in powers)])
        if self.count:
            sums = _merge(self.count, self.sums, len(batch), sums)
        self.count, self.sums = self.count + len(batch), sums

    @property
    def mean(self):
        """Mean, (d,) float64."""
        return self.origin + self.sums[0]

    @property
    def variance(self):
        """Unbiased variance, (d,) float64; NaN of a single vector."""
        return _ratio(self.sums[1], np.full_like(self.sums[1], self.count - 1))

    @property
    def skewness(self):
        """Third central moment over the standard deviation cubed, (d,); NaN without spread."""
        return _ratio(self.sums[2] * self.count**0.5, self.sums[1] ** 1.5)

    @property
    def kurtosis(self):
        """Fourth central moment over the variance squared, (d,); NaN without spread."""
        return _ratio(self.sums[3] * self.count, self.sums[1] ** 2)


def _merge(n_a, a, n_b, b):
    """Return the moments of the union of two sets, (4, d)."""
    n, shift = n_a + n_b, b[0] - a[0]
    merged = a + b
    merged[0] = a[0] + shift * (n_b / n)
    merged[1] += shift**2 * (n_a * n_b / n)
    merged[2] += shift**3 * (n_a * n_b * (n_a - n_b) / n**2)
    merged[2] += 3 * shift * (n_a * b[1] - n_b * a[1]) / n
    merged[3] += shift**4 * (n_a * n_b * (n_a**2 - n_a * n_b + n_b**2) / n**3)
    merged[3] += 6 * shift**2 * (n_a**2 * b[1] + n_b**2 * a[1]) / n**2
    merged[3] += 4 * shift * (n_a * b[2] - n_b * a[2]) / n
    return merged


def _ratio(above, below):
    """Return a quotient, NaN for a divisor of zero."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def normality(moments):
    """Return measures of the normality of each dimension.

    Parameters
    ----------
    moments : Moments

    Returns
    -------
    dict
        ``skewness``: mean over dimensions of |skewness|; ``kurtosis``: mean over dimensions, 3 is
        normal; ``normal_share``: share of dimensions in [0, 1] that the test of D'Agostino and
        Pearson does not reject at 5 %. Dimensions without spread are ignored. None if all are
        without spread; the share is None also for fewer than 20 vectors.
    """
    if moments.count == 0:
        return dict.fromkeys(("skewness", "kurtosis", "normal_share"))
    skewness, kurtosis = moments.skewness, moments.kurtosis
    known = np.isfinite(skewness) & np.isfinite(kurtosis)
    skewness, kurtosis = skewness[known], kurtosis[known]
    share = None
    if moments.count >= MIN_TESTED:
        statistic = skewness_score(skewness, moments.count) ** 2
        statistic += kurtosis_score(kurtosis, moments.count) ** 2
        # χ² of two degrees of freedom: p = exp(-K² / 2).
        share = _mean(statistic <= -2 * np.log(LEVEL))
    return {
        "skewness": _mean(np.abs(skewness)),
        "kurtosis": _mean(kurtosis),
        "normal_share": share,
    }


def _mean(values):
    return float(values.mean()) if len(values) else None


def skewness_score(skewness, n):
    """Return the skewness of n normal samples as a standard normal (D'Agostino, 1970)."""
    scaled = skewness * np.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    kurtosis = 3 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3)
    kurtosis /= (n - 2) * (n + 5) * (n + 7) * (n + 9)
    width = np.sqrt(2 * (kurtosis - 1)) - 1
    return np.arcsinh(scaled * np.sqrt((width - 1) / 2)) / np.sqrt(0.5 * np.log(width))


def kurtosis_score(kurtosis, n):
    """Return the kurtosis of n normal samples as a standard normal (Anscombe and Glynn, 1983)."""
    expected = 3 * (n - 1) / (n + 1)
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    skew = 6 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9))
    skew *= np.sqrt(6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3)))
    freedom = 6 + 8 / skew * (2 / skew + np.sqrt(1 + 4 / skew**2))
    scaled = (kurtosis - expected) / np.sqrt(variance)
    root = np.cbrt((1 - 2 / freedom) / (1 + scaled * np.sqrt(2 / (freedom - 4))))
    return (1 - 2 / (9 * freedom) - root) / np.sqrt(2 / (9 * freedom))
