"""Leaderboards: the distilled sets of an experiment, ranked per student, IPC and protocol."""

from dataclasses import dataclass

import pandas as pd

from stillhouse.reporting import table_layout
from stillhouse.reporting.page import differences, drawing


@dataclass(frozen=True)
class Row:
    """A distilled set on a leaderboard.

    Parameters
    ----------
    key : tuple
        Student, method, distill seed, IPC and protocol.
    name, method : str
    rank : int
        Of the accuracy as shown, 1 is the highest; equal accuracies share a rank. 0 without one.
    place : str
        ``best``, ``second`` or empty.
    mean, std : float
        Accuracy over student seeds [%]; NaN without one.
    note : str
        Published number and diverged students, if any.
    is_baseline : bool
    difference : differences.Difference or None
        To the baseline.
    n_bytes, seconds : float
        Of images and labels; of the full lineage with one student. NaN where unknown.
    """

    key: tuple
    name: str
    method: str
    rank: int
    place: str
    mean: float
    std: float
    note: str
    is_baseline: bool
    difference: object
    n_bytes: float
    seconds: float


@dataclass(frozen=True)
class Board:
    """A leaderboard; `limit` is the end of its forest plots' axis [percentage points]."""

    student: str
    ipc: int
    protocol: str
    labels: str
    baseline: str
    limit: float
    rows: list


def boards(frame):
    """Return the leaderboards of an experiment, one per student, IPC and protocol.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read`.

    Returns
    -------
    list of Board
        Rows by accuracy, highest first. Differences are to the baseline's set of the same distill
        seed; there are none without a baseline.
    """
    return [
        _board(*key, cells, frame)
        for key, cells in frame.groupby(table_layout.COMPARISON, sort=False)
    ]


def totals(frame):
    """Return accuracy and costs of every distilled set under every protocol.

    Returns
    -------
    pandas.DataFrame
        Indexed by (student, method, distill seed, IPC, protocol); ``mean``, ``std`` [%],
        ``published`` [%], ``n_bytes`` of images and labels, ``seconds`` of the full lineage.
    """
    values = frame.assign(
        reported=table_layout.reported_accuracy(frame),
        n_bytes=frame["image_bytes"] + frame["label_bytes"],
    )
    sets = values.groupby(table_layout.SET, sort=False)
    seconds = table_layout.costs(frame).sum(axis=1, skipna=False)
    return sets.agg(
        mean=("reported", "mean"),
        std=("reported", "std"),
        published=("published", "first"),
        n_bytes=("n_bytes", "first"),
    ).assign(seconds=seconds)


def _board(student, ipc, protocol, cells, frame):
    baseline, names = table_layout.baseline(frame), table_layout.set_names(frame)
    sets = dict(list(cells.groupby(["method", "distill_seed"], sort=False)))
    values = totals(cells)
    shown = values["mean"].round(1).dropna()
    heights = sorted(set(shown), reverse=True)
    places = dict(zip(heights, ("best", "second"), strict=False))
    rows = []
    for (method, seed), of_set in sets.items():
        key = (student, method, seed, ipc, protocol)
        of_baseline, accuracy = sets.get((baseline, seed)), shown.get(key)
        rows.append(
            Row(
                key=key,
                name=names[method, seed],
                method=method,
                rank=0 if accuracy is None else 1 + int((shown > accuracy).sum()),
                place=places.get(accuracy, ""),
                mean=values["mean"][key],
                std=values["std"][key],
                note=_note(of_set),
                is_baseline=method == baseline,
                difference=None
                if method == baseline or of_baseline is None
                else differences.paired(of_set, of_baseline),
                n_bytes=values["n_bytes"][key],
                seconds=values["seconds"][key],
            )
        )
    rows.sort(key=lambda row: (not row.rank, -row.mean))
    limit = drawing.forest_limit([row.difference for row in rows if row.difference])
    return Board(student, ipc, protocol, cells["labels"].iloc[0], baseline, limit, rows)


def _note(cells):
    """Return the published number and the diverged students of a set as text."""
    diverged, published = int(cells["accuracy"].isna().sum()), cells["published"].iloc[0]
    parts = [f"{diverged} of {len(cells)} diverged"] if diverged else []
    return "; ".join(parts + ([f"published {published:.1f}"] if pd.notna(published) else []))
