"""Published accuracies, and the cells that they are comparable with.

``workflow/published/*.csv`` has a file per paper and a row (`COLUMNS`) per printed number, in the
order of the print: ``paper``, ``table`` (empty for numbers of a repository); ``dataset``,
``resolution`` [px]; ``method``; ``ipc`` or ``kilobytes_per_class`` (of 1,024 bytes), or both;
``teacher``, those of the labels, separated by spaces; ``student``; ``labels`` (soft, hard, or empty
where the paper does not state them); ``setting``, what differs from the method's own, empty for the
method itself; ``value``, ``std`` and ``unit``; ``note``, on misprints, other values elsewhere, and
what is not stated.

``preset`` names the cells that reproduce a number, several separated by spaces, as
``<preset>/<experiment>/<method>/<protocol>``; a row that no preset reproduces names none and is
never shown. A number is shown beside a cell if both report the same accuracy (``last`` or ``best``)
and both lineages agree in everything that `comparable` includes. Where several numbers are of one
lineage, that of the table which the cell's experiment, method and protocol claim is shown,
otherwise the first. The lineages of presets are planned once and recorded as signatures in
``signatures.json``.
"""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import NamedTuple

from stillhouse.artifacts.addresses import canonical
from stillhouse.errors import StillhouseError

COLUMNS = (
    *("paper", "table", "dataset", "resolution", "method", "ipc", "kilobytes_per_class"),
    *("teacher", "student", "labels", "setting", "value", "std", "unit", "note", "preset"),
)
KEY = ("dataset", "method", "ipc", "student", "labels")
# Columns that distinguish the rows of a table, beside `KEY`.
FURTHER = ("kilobytes_per_class", "teacher", "setting", "unit")
SIGNATURES = "signatures.json"
DIGITS = 12
# Settings in which a cell may differ from the preset's, by stage; "" is every stage.
IGNORED = {
    "": {"seed", "precision"},
    # How a teacher was trained; its architecture and its images are compared.
    "teacher": {
        "batch_size",
        "crop",
        "decay",
        "epochs",
        "flip",
        "label_smoothing",
        "learning_rate",
        "milestones",
        "nesterov",
        "optimizer",
        "pad",
        "pretrained",
        "rate_decay",
        "schedule",
        "smoothing",
        "stem_init",
        "weight_decay",
        "weights",
    },
    # A union over the methods of a config; the step that is sampled from is compared.
    "inversion": {"snapshots"},
    # How views are stored, not which.
    "labels": {"views_stored"},
    # The device that random numbers are drawn on.
    "samples": {"draw_on"},
}
# Of a source: its images are compared by dataset, class count and resolution, not by origin.
COMPARED_OF_INDEX = {"holdout"}
# Settings of which only the presence is compared: pretrained weights, from a hub or a folder, and
# the label numbers of classes.
PRESENCE = {"denoiser": {"weights", "class_labels"}, "patch_features": {"clip"}}
# Settings by class id, of which only the values are compared; ids are the source's own.
BY_CLASS = {"denoiser": {"names"}}


class Row(NamedTuple):
    """A published number.

    Parameters
    ----------
    name : str
        Paper, table and all that distinguishes the number from others of the table.
    key : tuple of str
        As `KEY`.
    value : float
        In the row's unit; of cells: an accuracy [%].
    std : float or None
    cells : list of (preset, experiment, method, protocol)
        Those that reproduce it.
    """

    name: str
    key: tuple
    value: float
    std: float | None
    cells: list


def read(paths):
    """Return the `Row` of every number in the published CSV files."""
    rows = []
    for path in paths:
        for row in csv.DictReader(io.StringIO(path.read_text())):
            parts = [row[column] for column in (*KEY, *FURTHER) if row[column]]
            table = f" Table {row['table']}" if row["table"] else ""
            name = f"{row['paper']}{table}: {', '.join(parts)}"
            std = float(row["std"]) if row["std"] else None
            cells = [tuple(cell.split("/")) for cell in row["preset"].split()]
            rows.append(Row(name, tuple(row[k] for k in KEY), float(row["value"]), std, cells))
    return rows


def key_of(identity):
    """Return the `KEY` of a cell; soft labels are the same stored or online."""
    labels = "hard" if identity["labels"] == "hard" else "soft"
    return (*(str(identity[name]) for name in ("dataset", "kind", "ipc", "arch")), labels)


def numbers(paths, signatures_path):
    """Return all published numbers that presets reproduce.

    Parameters
    ----------
    paths : list of Path
        The CSV files.
    signatures_path : Path
        The recorded `signatures`.

    Returns
    -------
    dict
        {key: {signature: [((value, std), (experiment, method, protocol)), …]}}, in the order of the
        files.

    Raises
    ------
    StillhouseError
        If a row has no recorded signature.
    """
    recorded = json.loads(Path(signatures_path).read_text())
    by_key = {}
    for row in read(paths):
        for cell in row.cells:
            try:
                own = recorded[row.name]["/".join(cell)]
            except KeyError:
                message = f"{signatures_path}: {row.name}: missing; run make format"
                raise StillhouseError(message) from None
            claims = by_key.setdefault(row.key, {}).setdefault(own, [])
            claims.append(((row.value, row.std), cell[1:]))
    return by_key


def beside(numbers, identity, spec):
    """Return the published (accuracy, std) of a cell, or (None, None).

    Parameters
    ----------
    numbers : dict
        As `numbers` returns it.
    identity : dict
        The cell's.
    spec : dict
        Of the cell's artifact.
    """
    candidates = numbers.get(key_of(identity))
    if not candidates:
        return None, None
    claims = candidates.get(signature(spec, identity["report"]), [])
    own = tuple(identity.get(name) for name in ("experiment", "method", "protocol"))
    claimed = [value for value, claim in claims if claim == own]
    return next(iter([*claimed, *(value for value, _ in claims)]), (None, None))


def signature(spec, report):
    """Return the first twelve hexadecimal digits of the SHA-256 of `comparable(spec, report)`."""
    return hashlib.sha256(comparable(spec, report).encode()).hexdigest()[:DIGITS]


def comparable(spec, report):
    """Return the reported accuracy and the compared part of a cell's lineage as canonical JSON.

    Seeds, digests, addresses, versions, the origin of images, the order of classes and teachers,
    and the settings in `IGNORED` are left out; stored and online soft labels are the same.
    """
    settings, upstream = spec["settings"], dict(spec["upstream"])
    labels = {k: v for k, v in settings["labels"].items() if k != "kind"}
    teachers = {"teachers": upstream.pop("teachers")} if "teachers" in upstream else {}
    if "labels" in upstream:
        table = upstream.pop("labels")
        labels |= {k: v for k, v in table["settings"].items() if k not in IGNORED["labels"]}
        teachers = {k: part for k, part in table["upstream"].items() if k != "distilled"}
    if teachers:
        epochs = settings["training"]["epochs"]
        labels = {"encoding": "float16", "epochs_stored": epochs, **labels}
    students = {**spec, "settings": {**settings, "labels": labels}, "upstream": upstream | teachers}
    return canonical({"report": report, **_compared(students)})


def _compared(spec):
    """Return the compared part of a spec and its upstream as plain values."""
    upstream = {}
    for name, part in spec["upstream"].items():
        if isinstance(part, list):
            upstream[name] = sorted(map(_compared, part), key=canonical)
        else:
            upstream[name] = _compared(part)
    return {
        "settings": _compared_settings(spec["stage"], spec["settings"]),
        "stage": spec["stage"],
        "upstream": upstream,
        **{name: value for name, value in spec["keys"].items() if name == "ipc"},
    }


def _compared_settings(stage, settings):
    ignored = IGNORED[""] | IGNORED.get(stage, set())
    if stage == "index":
        ignored = settings.keys() - COMPARED_OF_INDEX
    compared = {}
    for name, value in settings.items():
        if name in ignored:
            continue
        if name == "classes":
            value = len(value)
        elif name in PRESENCE.get(stage, ()):
            value = True
        elif name in BY_CLASS.get(stage, ()):
            value = sorted(value.values())
        elif isinstance(value, dict):
            value = _compared_settings("", value)
        compared[name] = value
    return compared


def signatures(rows, cells_of):
    """Return {name of the row: {cell: signature}} of all rows that presets reproduce.

    Parameters
    ----------
    rows : list of Row
    cells_of : callable
        From a preset's name to the (identity, spec) of each of its cells.

    Raises
    ------
    StillhouseError
        If a preset has no such cell.
    """
    presets = sorted({cell[0] for row in rows for cell in row.cells})
    cells = {
        (key_of(cell), (preset, cell["experiment"], cell["method"], cell["protocol"])): (
            spec,
            cell["report"],
        )
        for preset in presets
        for cell, spec in cells_of(preset)
    }
    recorded = {}
    for row in rows:
        for cell in row.cells:
            if (row.key, cell) not in cells:
                raise StillhouseError(f"{row.name}: unknown cell {'/'.join(cell)}; correct preset")
            own = recorded.setdefault(row.name, {})
            own["/".join(cell)] = signature(*cells[row.key, cell])
    return recorded


def record(folder, cells_of):
    """Write ``signatures.json`` of a folder of published CSV files; `cells_of` as above."""
    values = signatures(read(sorted(folder.glob("*.csv"))), cells_of)
    (folder / SIGNATURES).write_text(json.dumps(values, indent=1) + "\n")
