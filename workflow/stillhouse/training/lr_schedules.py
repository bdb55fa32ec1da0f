"""Learning-rate schedules, as factors of the highest rate."""

import math
from itertools import pairwise

# Schedules that change per step; the others change per epoch, as in the papers' code.
PER_STEP = {"one_cycle"}

# EDC, appendix G.3: both thresholds.
ALRS_THRESHOLD = 0.02


def learning_rate_factor(settings, epoch, losses=()):
    """Return the factor on the highest learning rate.

    Parameters
    ----------
    settings : dict
        ``schedule``, ``epochs``, and all settings of the schedule; milestones in epochs.
    epoch : float
        From 0; between two epochs for a schedule of `PER_STEP`.
    losses : list of float
        Mean training losses of the previous epochs, for ``alrs``.

    Notes
    -----
    After e of n epochs:

    - ``constant``: 1.
    - ``cosine``: ½ (1 + cos(π e / (ζ n))), ζ the smoothing; to 0 for ζ = 1, to ½ for ζ = 2.
    - ``ssrs``: the same up to 5n/6, then ½ (1 + cos(5π / 6ζ)) (1 - e/n) (EDC, equation 33).
    - ``linear``: 1 - e / (ζ n); to ½ for ζ = 2 (C EDC train_FKD_parallel.py, by mistake).
    - ``multistep``: times `rate_decay` from each milestone on.
    - ``alrs``: times `rate_decay` after each epoch whose loss differs from the previous epoch's by
      at most 0.02, absolute and relative (EDC, appendix G.3).
    - ``one_cycle``: from 1/25 up to 1 in the first 30%, then down to 0, both by half cosines
      (Smith & Topin 2018 as in torch's OneCycleLR).
    """
    schedule, share = settings["schedule"], epoch / settings["epochs"]
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return half_cosine(share, settings["smoothing"])
    if schedule == "ssrs":
        smoothing = settings["smoothing"]
        if share <= 5 / 6:
            return half_cosine(share, smoothing)
        return half_cosine(5 / 6, smoothing) * (1 - share)
    if schedule == "linear":
        return 1 - share / settings["smoothing"]
    if schedule == "multistep":
        return settings["rate_decay"] ** sum(epoch >= m for m in settings["milestones"])
    if schedule == "alrs":
        # paper: after every iteration; here: after every epoch, as in the code of EDC.
        return settings["rate_decay"] ** sum(_has_converged(a, b) for a, b in pairwise(losses))
    if share < 0.3:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * share / 0.3))
    return half_cosine(share - 0.3, 0.7)


def half_cosine(share, length=1):
    """Return ½ (1 + cos(π share / length)): from 1 at 0 down to 0 at `length`."""
    return 0.5 * (1 + math.cos(math.pi * share / length))


def _has_converged(before, loss):
    """Return whether a loss has changed by less than the threshold (EDC, appendix G.3)."""
    return abs(loss - before) <= ALRS_THRESHOLD * min(abs(loss), 1)
