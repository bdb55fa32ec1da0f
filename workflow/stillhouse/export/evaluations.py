"""Accuracies and costs of one distilled set, from all tables of a results folder."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.reporting import table_layout, tables


@dataclass(frozen=True)
class Evaluation:
    """Students of a distilled set under one protocol, one per seed.

    Parameters
    ----------
    student, protocol, labels : str
        Names in the config; kind of labels.
    label_encoding : str
        Of soft labels; empty for others.
    report : str
        Accuracy that is reported: ``last`` or ``best``.
    mean, std : float
        Test accuracy over seeds [%]; NaN if missing.
    n, diverged : int
        Students with an accuracy, and those that diverged and have none.
    seconds : float
        Mean time of training a student [s].
    published : float
        Of a paper [%]; NaN without one.
    spec : dict
        Of the first student.
    """

    student: str
    protocol: str
    labels: str
    label_encoding: str
    report: str
    mean: float
    std: float
    n: int
    diverged: int
    seconds: float
    published: float
    spec: dict


def evaluations(distilled, folder="results/tables"):
    """Return the `Evaluation` of a set under every protocol, in the order of the tables.

    Students that several experiments share count once. Tables of earlier versions, and cells whose
    artifacts were deleted, are left out.

    Parameters
    ----------
    distilled : dict
        Spec of the set.
    folder : str or Path
        Of the tables.
    """
    rows = [_rows(path, distilled["keys"]) for path in sorted(Path(folder).glob("*.csv"))]
    if not rows:
        return []
    frame = pd.concat(rows, ignore_index=True).drop_duplicates("artifact")
    students = frame.groupby(frame["artifact"].map(lambda path: str(Path(path).parent)), sort=False)
    tested = []
    for _, cells in students:
        spec = _spec(cells["artifact"].iloc[0])
        if spec and spec["upstream"]["distilled"]["address"] == distilled["address"]:
            tested.append(_evaluation(cells, spec))
    return tested


def _rows(path, keys):
    """Return the rows of a table with the IPC and seed of a set."""
    try:
        frame = tables.read_alone(path)
    except StillhouseError:
        frame = pd.DataFrame(columns=tables.COLUMNS)
    return frame[(frame["ipc"] == keys["ipc"]) & (frame["distill_seed"] == keys["seed"])]


def _spec(folder):
    try:
        return store.read_spec(folder)
    except store.FileError:
        return None


def _evaluation(cells, spec):
    first, accuracies = cells.iloc[0], table_layout.reported_accuracy(cells)
    names = ("student", "protocol", "labels", "label_encoding", "report")
    return Evaluation(
        **{name: first[name] for name in names},
        mean=float(accuracies.mean()),
        std=float(accuracies.std(ddof=1)),
        n=int(accuracies.count()),
        diverged=int(accuracies.isna().sum()),
        seconds=float(cells["seconds_train"].mean()),
        published=float(first["published"]),
        spec=spec,
    )
