"""Leaderboards: the methods of an experiment, ranked per student, IPC and protocol."""

from dataclasses import dataclass, field, replace

import pandas as pd

from stillhouse.reporting import comparisons, table_layout
from stillhouse.reporting.page import drawing


@dataclass(frozen=True)
class Row:
    """A distilled set, or a method with several sets, on a leaderboard; or full data.

    Parameters
    ----------
    key : tuple
        Student, method, distill seed, IPC and protocol; of several sets those of the first.
    name, method : str
    n_sets : int
    mean, std : float
        Accuracy over student seeds, of several sets over their means [%]; NaN without one.
    note : str
        Published number and diverged students, if any.
    n_bytes, seconds : float
        Of images and labels; of the full lineage with one student; of several sets the mean. NaN
        where unknown.
    scores : dict of str to float
        By name, see `comparisons.SCORES`.
    is_baseline : bool
    difference : stillhouse.evaluation.differences.Difference or None
        To the baseline.
    rank : int
        Of the accuracy as shown, 1 is the highest; equal accuracies share a rank. 0 without one.
    place : str
        ``best``, ``second`` or empty.
    """

    key: tuple
    name: str
    method: str
    n_sets: int
    mean: float
    std: float
    note: str
    n_bytes: float
    seconds: float
    scores: dict
    is_baseline: bool = False
    difference: object = None
    rank: int = 0
    place: str = ""


@dataclass(frozen=True)
class Board:
    """A leaderboard.

    Parameters
    ----------
    student, protocol, labels : str
    ipc : int
    baseline : str or None
    limit : float
        End of the forest plots' axis [percentage points].
    rows : list of Row
        Methods by accuracy, highest first.
    full_data : list of Row
        Students trained on all training images, without rank.
    sets : list of Row
        Single sets by accuracy, if methods have several.
    scores : list of str
        Names of the scores that a row has.
    """

    student: str
    ipc: int
    protocol: str
    labels: str
    baseline: str
    limit: float
    rows: list
    full_data: list = field(default_factory=list)
    sets: list = field(default_factory=list)
    scores: list = field(default_factory=list)


def boards(frame):
    """Return the leaderboards of an experiment, one per student, IPC and protocol.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read`.

    Returns
    -------
    list of Board
        Differences are to the baseline's sets of the same distill seeds; there are none without a
        baseline.
    """
    return [
        _board(*key, cells, frame)
        for key, cells in table_layout.of_sets(frame).groupby(table_layout.COMPARISON, sort=False)
    ]


def totals(frame):
    """Return accuracy and costs of every distilled set under every protocol.

    Returns
    -------
    pandas.DataFrame
        Indexed by (student, method, distill seed, IPC, protocol); ``mean``, ``std`` [%],
        ``published`` [%], ``n_bytes`` of images and labels, ``seconds`` of the full lineage.
    """
    sets = table_layout.with_totals(frame).groupby(table_layout.SET, sort=False)
    return sets.agg(
        mean=("reported", "mean"),
        std=("reported", "std"),
        published=("published", "first"),
        n_bytes=("n_bytes", "first"),
        seconds=("seconds", "mean"),
    )


def _board(student, ipc, protocol, cells, frame):
    baseline = table_layout.baseline(frame)
    several = cells["distill_seed"].nunique() > 1
    rows = _ranked(cells, ["method"], baseline)
    differences = [row.difference for row in rows if row.difference]
    place = (frame[table_layout.COMPARISON] == [student, ipc, protocol]).all(axis=1)
    full = frame[place].drop(cells.index)
    return Board(
        student,
        ipc,
        protocol,
        cells["labels"].iloc[0],
        baseline,
        drawing.forest_limit(differences),
        rows,
        [_row(one) for _, one in full.groupby("method", sort=False)],
        _ranked(cells, ["method", "distill_seed"], baseline) if several else [],
        [name for name in ("lrs", "ars") if cells[name].notna().any()],
    )


def _ranked(cells, grouping, baseline):
    """Return the rows of the groups of a board's cells, by accuracy, with ranks."""
    random, names = cells[cells["method"] == baseline], table_layout.set_names(cells)
    rows = []
    for key, of_row in cells.groupby(grouping, sort=False):
        is_baseline = key[0] == baseline
        row = {"is_baseline": is_baseline}
        if len(grouping) > 1:
            row["name"] = names[key]
        if not (is_baseline or random.empty):
            row["difference"] = comparisons.to_baseline(of_row, random)
        rows.append(_row(of_row, **row))
    shown = pd.Series([row.mean for row in rows]).round(1)
    heights = sorted(set(shown.dropna()), reverse=True)
    places = dict(zip(heights, ("best", "second"), strict=False))
    ranked = [
        replace(row, rank=1 + int((shown > accuracy).sum()), place=places.get(accuracy, ""))
        if pd.notna(accuracy)
        else row
        for row, accuracy in zip(rows, shown, strict=True)
    ]
    return sorted(ranked, key=lambda row: (not row.rank, -row.mean))


def _row(cells, **further):
    """Return the row of a set, or of several sets of one method."""
    values = totals(cells)
    several, (key, first) = len(values) > 1, next(values.iterrows())
    return Row(
        **{
            "key": key,
            "name": key[1],
            "method": key[1],
            "n_sets": len(values),
            "mean": values["mean"].mean(),
            "std": values["mean"].std() if several else first["std"],
            "note": _note(cells),
            "n_bytes": values["n_bytes"].mean(skipna=False),
            "seconds": values["seconds"].mean(skipna=False),
            "scores": comparisons.mean_scores(cells),
            **further,
        }
    )


def _note(cells):
    """Return the published number and the diverged students of a set as text."""
    diverged, published = int(cells["accuracy"].isna().sum()), cells["published"].iloc[0]
    parts = [f"{diverged} of {len(cells)} diverged"] if diverged else []
    return "; ".join(parts + ([f"published {published:.1f}"] if pd.notna(published) else []))
