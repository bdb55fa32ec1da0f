"""Integer probabilities of quantised Laplace distributions, the same on every machine.

The tables come from correctly rounded decimal arithmetic and integers alone. A distribution has a
mean on a grid of 1/16 and a scale b with ln b on a grid of 1/8 from -37/8 to 40/8, which covers the
range of scales of the entropy network (C arm_func.py:126: ln b from -4.6 to 5).

An alphabet has 64 symbols. Of a value v around the integer nearest to the mean, r = v - nearest:
symbol r + 32 for -31 ≤ r ≤ 30; symbol 0 for less and 63 for more, which the excess beyond follows.
An excess is geometric, because the tail of a Laplace distribution is: symbol e for e ≤ 62, and 63
for more, followed by the excess beyond 63.
"""

import decimal
import functools

import numpy as np

PRECISION = 24  # bits of a probability
SYMBOLS = 64
MEAN_STEPS = 16  # steps of the mean per integer
SCALE_STEPS = 8  # steps of ln b per unit
LOWEST, HIGHEST = -37, 40  # of ln b, in steps
LOW, HIGH = 0, SYMBOLS - 1  # symbols of a tail
FIRST, LAST = -31, 30  # values around the nearest integer that have symbols of their own
BITS = 36  # of the fixed-point exponentials below


@functools.cache
def _decays():
    """Return floor(2^36 exp(-n / (16 b))), (scales, n) int64, n up to 63 × 16."""
    rows = []
    with decimal.localcontext(prec=40, rounding=decimal.ROUND_HALF_EVEN):
        for step in range(LOWEST, HIGHEST + 1):
            rate = (-decimal.Decimal(step) / SCALE_STEPS).exp() / MEAN_STEPS
            factor, value, row = (-rate).exp(), decimal.Decimal(2**BITS), []
            for _ in range(63 * MEAN_STEPS + 1):
                row.append(int(value))
                value *= factor
            rows.append(row)
    return np.array(rows, np.int64)


def _cumulative(shares):
    """Return cumulative counts of 2^24 from cumulative shares of 2^37, each count at least 1."""
    free = 2**PRECISION - SYMBOLS
    return (shares * free >> BITS + 1) + np.arange(SYMBOLS + 1)


@functools.cache
def laplace():
    """Return cumulative counts of values, (scales, 16, 65) int64, from 0 to 2^24.

    By scale in steps from `LOWEST`, by mean minus nearest integer in sixteenths from -8 to 7, and
    by symbol.
    """
    decays = _decays()
    means = np.arange(-MEAN_STEPS // 2, MEAN_STEPS // 2)[:, None]
    edges = MEAN_STEPS * (np.arange(1, SYMBOLS) - 32) - MEAN_STEPS // 2 - means
    half = decays[:, np.abs(edges)]
    inner = np.where(edges < 0, half, 2 ** (BITS + 1) - half)
    shares = np.zeros((len(decays), MEAN_STEPS, SYMBOLS + 1), np.int64)
    shares[..., 1:-1], shares[..., -1] = inner, 2 ** (BITS + 1)
    return _cumulative(shares)


@functools.cache
def geometric():
    """Return cumulative counts of excesses, (scales, 65) int64, from 0 to 2^24."""
    decays = _decays()[:, ::MEAN_STEPS]
    shares = np.full((len(decays), SYMBOLS + 1), 2 ** (BITS + 1), np.int64)
    shares[:, :-1] -= 2 * decays
    return _cumulative(shares)


@functools.cache
def all_tables():
    """Return all cumulative counts as rows, (rows, 65) int64; see `laplace_row`."""
    return np.concatenate([laplace().reshape(-1, SYMBOLS + 1), geometric()])


def laplace_row(scale, mean):
    """Return the rows of values in `all_tables`.

    Parameters
    ----------
    scale : int64 array
        ln b in steps, from `LOWEST` to `HIGHEST`.
    mean : int64 array
        Mean minus nearest integer in sixteenths, from -8 to 7.
    """
    return (scale - LOWEST) * MEAN_STEPS + mean + MEAN_STEPS // 2


def geometric_row(scale):
    """Return the rows of excesses in `all_tables`, from ln b in steps."""
    return (HIGHEST - LOWEST + 1) * MEAN_STEPS + scale - LOWEST
