"""Axes of the page's charts: positions in pixels, ticks and their texts."""

import math
from dataclasses import dataclass

SECONDS = [
    *((value, f"{value} s") for value in (1, 2, 5, 10, 20, 30)),
    *((60 * value, f"{value} min") for value in (1, 2, 5, 10, 20, 30)),
    *((3600 * value, f"{value} h") for value in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
]
BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from `low` to `high`, over pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value):
        """Return the position of a value [px]."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = map(math.log, (low, high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def covering(values, start, end, log=False, margin=0.06):
    """Return the scale that has all values, with a margin as a share of their range.

    Logarithmic scales need positive values.
    """
    low, high = min(values), max(values)
    if log:
        factor = (high / low) ** margin if high > 1.2 * low else 1.2
        return Scale(low / factor, high * factor, start, end, log=True)
    space = margin * (high - low) or 1
    return Scale(low - space, high + space, start, end)


def linear_ticks(scale, most=6):
    """Return (value, text) at round numbers of a linear scale, at most `most` of them."""
    span = scale.high - scale.low
    power = 10 ** math.floor(math.log10(span / most))
    step = next(step for step in (1, 2, 5, 10, 20) if step * power * most >= span) * power
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [(i * step, f"{i * step:.{digits}f}") for i in range(first, last + 1)]


def byte_ticks(scale):
    """Return (value, text) of a logarithmic scale of bytes."""
    values = [(step * 10**power, power) for power in range(15) for step in (1, 2, 5)]
    texts = [
        (value, f"{value // 1000 ** (power // 3)} {BYTE_UNITS[power // 3]}")
        for value, power in values
    ]
    decades = [tick for tick in texts[::3] if scale.low <= tick[0] <= scale.high]
    return thinned(decades if len(decades) >= 3 else texts, scale)


def second_ticks(scale):
    """Return (value, text) of a logarithmic scale of seconds."""
    return thinned(SECONDS, scale)


def decade_ticks(scale):
    """Return (value, text) of a logarithmic scale of any unit."""
    values = [step * 10.0**power for power in range(-9, 10) for step in (1, 2, 5)]
    return thinned([(value, f"{value:g}") for value in values], scale, gap=24)


def thinned(ticks, scale, gap=48):
    """Return the ticks within a scale, so few that at least `gap` px lie between two."""
    inside = [tick for tick in ticks if scale.low <= tick[0] <= scale.high]
    spaced = []
    for tick in inside:
        if not spaced or abs(scale(tick[0]) - scale(spaced[-1][0])) >= gap:
            spaced.append(tick)
    return spaced


def byte_text(value):
    """Return bytes with three significant digits and a unit of thousands; – for NaN."""
    if math.isnan(value):
        return "–"
    power = min(len(BYTE_UNITS) - 1, int(math.log(max(value, 1), 1000) + 1e-9))
    return f"{_significant(value / 1000**power)} {BYTE_UNITS[power]}"


def second_text(value):
    """Return seconds as seconds, minutes or hours; – for NaN."""
    if math.isnan(value):
        return "–"
    divisor, unit = next(
        (divisor, unit)
        for below, divisor, unit in ((300, 1, "s"), (18_000, 60, "min"), (math.inf, 3600, "h"))
        if value < below
    )
    return f"{_significant(value / divisor)} {unit}"


def _significant(value):
    """Return a number with three digits, more before the point where it has them."""
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"
