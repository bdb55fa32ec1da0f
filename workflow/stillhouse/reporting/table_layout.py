"""Layout of an experiment's tables: sections, columns and texts."""

import itertools
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from stillhouse.config.references import FULL_DATA, MATCHED, full_data_name
from stillhouse.methods import registry

MISSING = "–"
# A distilled set under one protocol; a comparison of sets.
SET = ["student", "method", "distill_seed", "ipc", "protocol"]
COMPARISON = ["student", "ipc", "protocol"]
COST_COLUMNS = {
    "seconds_teacher": "teacher",
    "seconds_denoiser": "denoiser",
    "seconds_distill": "distil",
    "seconds_label": "label",
    "seconds_train": "train",
}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    group : str
        ``set``, ``accuracy``, ``scores``, ``teacher``, ``bytes``, ``bits`` or ``seconds``.
    name : str
    unit : str
        Empty without a unit.
    texts : list of str
        One per row.
    """

    group: str
    name: str
    unit: str
    texts: list

    @property
    def heading(self):
        """Name and unit."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


@dataclass(frozen=True)
class Section:
    """The table of one dataset and student: one row per distilled set."""

    dataset: str
    student: str
    columns: list

    def only(self, *groups):
        """Return the table of the named groups of columns: a row of headings, rows of texts."""
        columns = [column for column in self.columns if column.group in groups or not groups]
        texts = zip(*(column.texts for column in columns), strict=True)
        return [[column.heading for column in columns], *map(list, texts)]


def sections(frame):
    """Lay out the tables of one experiment.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per cell, as `stillhouse.reporting.tables.cell_row` returns them.

    Returns
    -------
    list of Section
        One per student. Accuracies are mean ± standard deviation (n - 1) over the student seeds of
        one distilled set, one column per protocol.
    """
    return [
        Section(dataset, student, _columns(part))
        for (dataset, student), part in frame.groupby(["dataset", "student"], sort=False)
    ]


def of_sets(frame):
    """Return the rows of distilled sets, without those of full data."""
    return frame[frame["kind"] != FULL_DATA]


def ipc_text(cells):
    """Return the IPC of a row; ``all`` for epochs of full data, which do not depend on it."""
    first = cells.iloc[0]
    is_any = first["kind"] == FULL_DATA and first["method"] != full_data_name(MATCHED)
    return "all" if is_any else str(first["ipc"])


def _columns(part):
    """Return the columns of one student's table."""
    rows = {}
    for (method, _, seed), cells in part.groupby(["method", "ipc", "distill_seed"], sort=False):
        # Full data that do not depend on the IPC have the same cells for each: one row.
        rows.setdefault((method, ipc_text(cells), seed), cells)
    names = set_names(part)
    sets = list(rows.values())
    by_protocol = {
        protocol: [cells[cells["protocol"] == protocol] for cells in sets]
        for protocol in part["protocol"].unique()
    }
    return [
        Column("set", "method", "", [names[method, seed] for method, _, seed in rows]),
        Column("set", "IPC", "", [ipc for _, ipc, _ in rows]),
        *(
            Column("accuracy", protocol, "%", [accuracy(cells) for cells in of_sets])
            for protocol, of_sets in by_protocol.items()
        ),
        *_score_columns(sets, by_protocol),
        *_if_any(Column("teacher", "recognised", "%", [_recognised(cells) for cells in sets])),
        *_byte_columns(sets, by_protocol),
        *_bit_columns(sets, by_protocol),
        *_second_columns(part, sets, by_protocol),
    ]


def _score_columns(sets, by_protocol):
    """Return the columns of DD-Ranking's scores; none without full data or a twin."""
    if all(cells[["hlr", "ars"]].isna().all(axis=None) for cells in sets):
        return []

    scores = [("HLR", sets, "hlr")]
    scores += [
        (f"{name.upper()}, {protocol}", of_protocol, name)
        for protocol, of_protocol in by_protocol.items()
        for name in ("ior", "lrs", "ars")
    ]
    columns = [
        Column("scores", title, "", [score_text(cells[name].max()) for cells in rows])
        for title, rows, name in scores
    ]
    return [column for column in columns if set(column.texts) != {MISSING}]


def score_text(value):
    """Return a score, or – for NaN."""
    return MISSING if pd.isna(value) else f"{value:.3f}".replace("-", "−")


def _byte_columns(sets, by_protocol):
    statistics = [_thousands(cells["statistics_bytes"]) for cells in sets]
    return [
        Column("bytes", "images", "kB", [_thousands(cells["image_bytes"]) for cells in sets]),
        *(
            Column(
                "bytes",
                f"labels, {protocol}",
                "kB",
                [_thousands(cells["label_bytes"]) for cells in of_sets],
            )
            for protocol, of_sets in by_protocol.items()
        ),
        *_if_any(Column("bytes", "statistics", "kB", statistics)),
    ]


def _bit_columns(sets, by_protocol):
    def column(name, of_sets, values):
        texts = [_thousands(cells[values]) for cells in of_sets]
        return Column("bits", name, "kbit per class", texts)

    return [
        column("images", sets, "image_bits_per_class"),
        *(
            column(f"labels, {protocol}", of_sets, "label_bits_per_class")
            for protocol, of_sets in by_protocol.items()
        ),
    ]


def _second_columns(part, sets, by_protocol):
    def column(name, values):
        return Column("seconds", name, "s", [_seconds(value) for value in values])

    def means(name, of_sets):
        return [cells[name].mean() for cells in of_sets]

    soft = set(part.loc[part["labels"] == "soft", "protocol"])
    denoiser = column("denoiser", [cells["seconds_denoiser"].iloc[0] for cells in sets])
    return [
        # A teacher that only the labels need is in the seconds of their protocol alone.
        column("teacher", [cells["seconds_teacher"].max(skipna=False) for cells in sets]),
        *([denoiser] if (part["seconds_denoiser"] != 0).any() else []),
        column("distil", [cells["seconds_distill"].iloc[0] for cells in sets]),
        *(
            column(f"label, {protocol}", means("seconds_label", of_sets))
            for protocol, of_sets in by_protocol.items()
            if protocol in soft
        ),
        *(
            column(f"train, {protocol}", means("seconds_train", of_sets))
            for protocol, of_sets in by_protocol.items()
        ),
    ]


def _if_any(column):
    """Return a column in a list, or no column if all its rows are missing."""
    return [column] if set(column.texts) != {MISSING} else []


def _recognised(cells):
    value = cells["recognised"].max()
    return MISSING if pd.isna(value) else f"{value:.0f}"


def groups(columns):
    """Return (heading, columns) of every run of columns that share group and unit."""
    runs = itertools.groupby(columns, key=lambda column: (column.group, column.unit))
    return [
        ("" if group == "set" else f"{group} [{unit}]" if unit else group, list(members))
        for (group, unit), members in runs
    ]


def set_names(frame):
    """Return {(method, distill seed): name}, with the seed if the method has several."""
    pairs = dict.fromkeys(zip(frame["method"], frame["distill_seed"], strict=True))
    counts = Counter(method for method, _ in pairs)
    return {(m, seed): f"{m} (seed {seed})" if counts[m] > 1 else m for m, seed in pairs}


def baseline(frame):
    """Return the name of the first method that is a baseline (`Method.baseline`), else None."""
    sets = of_sets(frame)
    kinds = dict(zip(sets["method"], sets["kind"], strict=True))
    return next((name for name, kind in kinds.items() if registry.method(kind).baseline), None)


def reported_accuracy(cells):
    """Return the reported test accuracy per cell [%]: the last or the best, as configured."""
    return cells["accuracy_best"].where(cells["report"] == "best", cells["accuracy"])


def with_totals(frame):
    """Return cells with ``reported`` accuracy [%], ``n_bytes`` of images and labels, ``seconds``.

    Seconds of the full lineage of a cell; NaN where a part is unknown.
    """
    return frame.assign(
        reported=reported_accuracy(frame),
        n_bytes=frame["image_bytes"] + frame["label_bytes"],
        seconds=frame[list(COST_COLUMNS)].sum(axis=1, skipna=False),
    )


def accuracy(cells):
    """Return mean ± std of the reported accuracy as text, with the published number beside it.

    Over the students that did not diverge, with the number of the others; – for no cells.
    """
    if cells.empty:
        return MISSING
    values, published = reported_accuracy(cells).dropna(), cells["published"].iloc[0]
    text = f"{values.mean():.1f}" if len(values) else MISSING
    if len(values) > 1:
        text += f" ± {values.std(ddof=1):.1f}"
    if len(values) < len(cells):
        text += f" ({len(cells) - len(values)} of {len(cells)} diverged)"
    if pd.notna(published):
        text += f" (published {published:.1f})"
    return text


def _thousands(values):
    """Return the first value in thousands as text; below one with three significant digits."""
    value = values.iloc[0] / 1000 if len(values) else None
    if pd.isna(value):
        return MISSING
    return f"{value:.1f}" if value >= 1 else f"{value:.3g}"


def _seconds(value):
    return MISSING if pd.isna(value) else f"{value:.1f}"


def costs(frame):
    """Return the compute time per accuracy: of its set, its labels and one of its students.

    Returns
    -------
    pandas.DataFrame
        One row per accuracy, indexed by (student, method, distill seed, IPC, protocol); those of
        `COST_COLUMNS` that are not zero throughout, by name [s]. NaN where a timing is missing.
    """
    means = frame.groupby(SET, sort=False)[list(COST_COLUMNS)].mean().rename(columns=COST_COLUMNS)
    return means.loc[:, (means != 0).any()]


def cost_columns(frame):
    """Return the columns of the table of `costs`."""
    seconds, names = costs(frame), set_names(frame)
    identities = {
        "method": [names[method, seed] for _, method, seed, _, _ in seconds.index],
        "IPC": [str(ipc) for _, _, _, ipc, _ in seconds.index],
        "protocol": [protocol for *_, protocol in seconds.index],
        "student": [student for student, *_ in seconds.index],
    }
    total = seconds.sum(axis=1, skipna=False)
    return [
        *(Column("set", name, "", texts) for name, texts in identities.items()),
        *(Column("seconds", name, "s", [_seconds(v) for v in seconds[name]]) for name in seconds),
        Column("seconds", "total", "s", [_seconds(value) for value in total]),
    ]
