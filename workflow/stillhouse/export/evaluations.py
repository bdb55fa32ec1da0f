"""Accuracies and costs of one distilled set, from all tables of a results folder."""

import contextlib
from dataclasses import dataclass, fields

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import TABLES
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
    n, n_diverged : int
        Students with an accuracy, and those that diverged and have none.
    seconds_train : float
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
    n_diverged: int
    seconds_train: float
    published: float
    spec: dict


def evaluations(distilled):
    """Return the `Evaluation` of a set under every protocol, in the order of the tables.

    Students that several experiments share count once. Tables of earlier versions, and cells whose
    artifacts were deleted, are left out.

    Parameters
    ----------
    distilled : dict
        Spec of the set.
    """
    results = tables.pooled(_frames(distilled["keys"]))
    tested = []
    for row in results.to_dict("records"):
        spec = _spec(row["artifact"])
        if spec and spec["upstream"]["distilled"]["address"] == distilled["address"]:
            names = [field.name for field in fields(Evaluation) if field.name != "spec"]
            tested.append(Evaluation(**{name: row[name] for name in names}, spec=spec))
    return tested


def _frames(keys):
    """Return {experiment: rows of sets in its table} that have the IPC and the seed of a set."""
    frames = {}
    for path in sorted(TABLES.glob("*.csv")):
        with contextlib.suppress(StillhouseError):
            frame = table_layout.of_sets(tables.read_alone(path))
            same = (frame["ipc"] == keys["ipc"]) & (frame["distill_seed"] == keys["seed"])
            if same.any():
                frames[path.stem] = frame[same]
    return frames


def _spec(folder):
    try:
        return store.read_spec(folder)
    except store.FileError:
        return None
