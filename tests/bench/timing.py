"""Timing pairs of functions in turn, A B A B ..., and printing the ratios."""

import statistics
import sys
import time

# Each pair once, to check that all rows can be measured.
ONCE = "--once" in sys.argv


def paired(ours, bound, pairs):
    """Time two functions in turn and return (median, smallest, largest ratio, medians in s)."""
    if ONCE:
        pairs = 1
    else:
        ours(), bound()
    times = [(clock(ours), clock(bound)) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in times)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return statistics.median(ratios), ratios[0], ratios[-1], *medians


def clock(function):
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def line(what, measured, target):
    """Print one row."""
    ratio, low, high, ours, bound = measured
    print(
        f"| {what} | {ratio:.2f} | {low:.2f} to {high:.2f} | {ours:.3f} | {bound:.3f} | {target} |"
    )
