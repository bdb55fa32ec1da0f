"""What stands in an experiment's table, and how Markdown prints it."""

import itertools
from dataclasses import dataclass

import pandas as pd

# Stands where there is no number.
NOTHING = "–"
PARTS = {
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
        ``set``, ``accuracy``, ``bytes`` or ``seconds``.
    name : str
    unit : str
        Empty where there is none.
    texts : list of str
        One a row.
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
    """The table of one dataset and student: one row a distilled set."""

    dataset: str
    student: str
    columns: list

    def only(self, *groups):
        """Return the table of some groups of columns: a row of headings, rows of texts."""
        columns = [column for column in self.columns if column.group in groups or not groups]
        texts = zip(*(column.texts for column in columns), strict=True)
        return [[column.heading for column in columns], *map(list, texts)]


def sections(frame):
    """Lay out the tables of one experiment.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row a cell, as `stillhouse.reporting.tables.cell_row` makes them.

    Returns
    -------
    list of Section
        One a student. Accuracies are mean ± standard deviation (n - 1) over the student seeds of
        one distilled set, one column a protocol.
    """
    return [
        Section(dataset, student, _columns(part))
        for (dataset, student), part in frame.groupby(["dataset", "student"], sort=False)
    ]


def _columns(part):
    rows = list(part.groupby(["method", "ipc", "distill_seed"], sort=False))
    names = set_names(part)
    sets = [cells for _, cells in rows]
    of = {p: [cells[cells["protocol"] == p] for cells in sets] for p in part["protocol"].unique()}
    with_table = [p for p in of if (part[part["protocol"] == p]["labels"] == "soft").any()]
    # A teacher that only the labels need is in the seconds of their protocol alone.
    teacher = [_seconds(cells["seconds_teacher"].max()) for cells in sets]
    distil = [_seconds(cells["seconds_distill"].iloc[0]) for cells in sets]
    statistics = [_kilobytes(cells["statistics_bytes"]) for cells in sets]
    denoiser = [_seconds(cells["seconds_denoiser"].iloc[0]) for cells in sets]
    denoiser = [Column("seconds", "denoiser", "s", denoiser)] * bool(
        (part["seconds_denoiser"] != 0).any()
    )
    return [
        Column("set", "method", "", [names[method, seed] for (method, _, seed), _ in rows]),
        Column("set", "IPC", "", [str(ipc) for (_, ipc, _), _ in rows]),
        *(Column("accuracy", p, "%", [accuracy(c) for c in of[p]]) for p in of),
        *_if_any(Column("teacher", "recognised", "%", [_recognised(c) for c in sets])),
        Column("bytes", "images", "kB", [_kilobytes(c["image_bytes"]) for c in sets]),
        *(
            Column("bytes", f"labels, {p}", "kB", [_kilobytes(c["label_bytes"]) for c in of[p]])
            for p in of
        ),
        *_if_any(Column("bytes", "statistics", "kB", statistics)),
        Column("seconds", "teacher", "s", teacher),
        *denoiser,
        Column("seconds", "distil", "s", distil),
        *(
            Column(
                "seconds", f"label, {p}", "s", [_seconds(c["seconds_label"].mean()) for c in of[p]]
            )
            for p in with_table
        ),
        *(
            Column(
                "seconds", f"train, {p}", "s", [_seconds(c["seconds_train"].mean()) for c in of[p]]
            )
            for p in of
        ),
    ]


def _if_any(column):
    """Return a column in a list, if any of its rows has something to say."""
    return [column] if set(column.texts) != {NOTHING} else []


def _recognised(cells):
    value = cells["recognised"].max()
    return NOTHING if pd.isna(value) else f"{value:.0f}"


def groups(columns):
    """Return (heading, columns) of every run of columns that share group and unit."""
    runs = itertools.groupby(columns, key=lambda column: (column.group, column.unit))
    return [
        ("" if group == "set" else f"{group} [{unit}]" if unit else group, list(members))
        for (group, unit), members in runs
    ]


def set_names(frame):
    """Return {(method, distill seed): name}; the seed is told where there is more than one."""
    pairs = dict.fromkeys(zip(frame["method"], frame["distill_seed"], strict=True))
    several = frame["distill_seed"].nunique() > 1
    return {(m, seed): f"{m} (seed {seed})" if several else m for m, seed in pairs}


def reported(cells):
    """Return the accuracies that the tables show [%]: the last or the best, as the config says."""
    return cells["accuracy_best"].where(cells["report"] == "best", cells["accuracy"])


def accuracy(cells):
    """Return mean ± std of the reported accuracy, with the published number beside it."""
    values, published = reported(cells), cells["published"].iloc[0]
    text = f"{values.mean():.1f}"
    if len(values) > 1:
        text += f" ± {values.std(ddof=1):.1f}"
    if pd.notna(published):
        text += f" (published {published:.1f})"
    return text


def _kilobytes(values):
    return NOTHING if pd.isna(values.iloc[0]) else f"{values.iloc[0] / 1000:.1f}"


def _seconds(value):
    return NOTHING if pd.isna(value) else f"{value:.1f}"


def costs(frame):
    """Return the seconds of every number: of its set, its labels and one of its students.

    Returns
    -------
    pandas.DataFrame
        A row a number, indexed by (student, method, distill seed, IPC, protocol); the columns of
        `PARTS` that are not zero throughout, by their names [s]. NaN where a timing is missing.
    """
    keys = ["student", "method", "distill_seed", "ipc", "protocol"]
    means = frame.groupby(keys, sort=False)[list(PARTS)].mean().rename(columns=PARTS)
    return means.loc[:, (means != 0).any()]


def cost_columns(frame):
    """Return the columns of the table of `costs`."""
    seconds, names = costs(frame), set_names(frame)
    words = {
        "method": [names[method, seed] for _, method, seed, _, _ in seconds.index],
        "IPC": [str(ipc) for _, _, _, ipc, _ in seconds.index],
        "protocol": [protocol for *_, protocol in seconds.index],
        "student": [student for student, *_ in seconds.index],
    }
    total = seconds.sum(axis=1, skipna=False)
    return [
        *(Column("set", name, "", texts) for name, texts in words.items()),
        *(Column("seconds", name, "s", [_seconds(v) for v in seconds[name]]) for name in seconds),
        Column("seconds", "total", "s", [_seconds(value) for value in total]),
    ]


def accuracy_notes(frame):
    """Return what there is to know about the accuracies, as sentences."""
    notes = []
    for protocol, cells in frame.groupby("protocol", sort=False):
        when = {
            "last": "after the last epoch",
            "best": "best of the evaluations on the test split in the last fifth of the epochs",
        }[cells["report"].iloc[0]]
        encoding = cells["label_encoding"].iloc[0]
        kind = f"{cells['labels'].iloc[0]} labels" + (f" ({encoding})" if encoding else "")
        teachers = cells["label_teachers"].iloc[0]
        notes.append(f"{protocol}: {kind}{f' of {teachers}' if teachers else ''}; {when}.")
    seeds = frame["seed"].nunique()
    notes.append(
        f"Test accuracy, mean ± standard deviation (n - 1) over {seeds} student seeds of one "
        "distilled set."
        if seeds > 1
        else "Test accuracy of one student seed."
    )
    return notes


def cost_notes(frame):
    """Return what there is to know about bytes and seconds, as sentences."""
    devices = ", ".join(sorted(set(frame["device"].dropna()) - {""})) or "an unknown device"
    notes = []
    if frame["recognised"].notna().any():
        notes.append(
            "Recognised: share of a set's whole images whose class the teachers of its soft labels "
            "name first."
        )
    if frame["statistics_bytes"].notna().any():
        notes.append(
            "Statistics: mean and variance of every class, from which sets of any size can be made "
            "again with the denoiser, whose weights are not counted."
        )
    return [
        *notes,
        "Bytes of a whole set: encoded images; the stored label table, or 8 bytes a hard label; "
        "none where teachers label in the loop.",
        f"Seconds on {devices}: of everything that a set and its labels are made from, as if made "
        "alone; `train` is one student.",
    ]


def markdown(frame, notes=()):
    """Return the tables of one experiment as Markdown, with `notes` below what there is to say.

    `frame` as for `sections`.
    """
    lines = [f"# {frame['experiment'].iloc[0]}", ""]
    for section in sections(frame):
        lines += [f"## {section.dataset}, student {section.student}", ""]
        lines += [*_markdown_table(section.only()), ""]
    notes = [*accuracy_notes(frame), *cost_notes(frame), *notes]
    return "\n".join(lines + [f"- {note}" for note in notes])


def _markdown_table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    filled = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows]
    filled.insert(1, ["-" * w for w in widths])
    return [f"| {' | '.join(row)} |" for row in filled]
