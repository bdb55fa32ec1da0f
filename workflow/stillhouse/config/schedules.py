"""The settings of learning-rate schedules and their defaults, for teachers and protocols."""

import math

KEYS = ("smoothing", "milestones", "rate_decay")

# The settings of each schedule and their defaults: IDC (Minimax train.py), EDC's code (st 2,
# alrs-dr 0.9975).
SCHEDULES = {
    "cosine": {"smoothing": 1.0},
    "ssrs": {"smoothing": 2.0},
    "linear": {"smoothing": 1.0},
    "multistep": {"milestones": [2 / 3, 5 / 6], "rate_decay": 0.2},
    "alrs": {"rate_decay": 0.9975},
}


def unused(schedule):
    """Return [(keys without effect for a schedule, reason)]."""
    entries = []
    for key in KEYS:
        if key not in SCHEDULES.get(schedule, {}):
            users = " or ".join(name for name, keys in SCHEDULES.items() if key in keys)
            entries.append(({key}, f"schedule: {schedule}, only with {users}"))
    return entries


def written_out(settings):
    """Return settings with every key of their schedule.

    ``half_cosine`` is a cosine of smoothing 2 (RDED validation/main.py).
    """
    if settings["schedule"] == "half_cosine":
        return {**settings, "schedule": "cosine", "smoothing": 2.0}
    return {**SCHEDULES.get(settings["schedule"], {}), **settings}


def in_epochs(settings):
    """Return settings with their milestones, if any, in epochs.

    Parameters
    ----------
    settings : dict
        With ``epochs``, a number; milestones below 1 are shares of it.
    """
    if "milestones" not in settings:
        return settings
    n_epochs = settings["epochs"]
    # paper: IDC's code rounds 2n/3 and 5n/6 down; here: the first epoch at or after the share,
    # because a share must have the same meaning for every number of epochs.
    epochs = (
        next(e for e in range(n_epochs + 1) if e / n_epochs >= m) if m < 1 else math.ceil(m)
        for m in settings["milestones"]
    )
    return {**settings, "milestones": sorted(map(float, epochs))}
