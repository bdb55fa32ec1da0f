"""Tables: one CSV row a cell, and Markdown as a paper would print it."""

import csv
import io
from pathlib import Path

import pandas as pd

from stillhouse import artifacts
from stillhouse.plan import PER_CLASS
from stillhouse.spec import safe_name

COLUMNS = """
experiment dataset method fidelity ipc distill_seed teacher labels label_encoding student protocol
seed accuracy accuracy_best accuracy_top5 image_bytes label_bytes seconds_teacher seconds_denoiser
seconds_distill seconds_label seconds_train device published published_std digest
""".split()  # noqa: SIM905
SECONDS = {
    "distilled": "distill",
    "teacher": "teacher",
    "denoiser": "denoiser",
    "labels": "label",
    "students": "train",
}
HARD_LABEL_BYTES = 8


def tables(inputs, params, outputs):
    """Write the CSV and the Markdown of one experiment from its cells.

    Parameters
    ----------
    inputs : dict
        ``cells`` (a ``cell.json`` for each of ``params["cells"]``, in the same order) and
        ``published`` (CSV files of the papers' numbers).
    params : dict
        ``cells``: the identity of each cell; ``report`` says which accuracy the Markdown shows.
    outputs : dict
        ``csv`` and ``markdown``.
    """
    published = _published(inputs["published"])
    rows = [
        cell_row(identity, path, published)
        for identity, path in zip(params["cells"], inputs["cells"], strict=True)
    ]
    frame = pd.DataFrame(rows)
    text = frame[COLUMNS].to_csv(index=False, lineterminator="\n", float_format="%.4f")
    artifacts.save_bytes(outputs["csv"], text.encode())
    artifacts.save_bytes(outputs["markdown"], markdown(frame).encode())


def cell_row(identity, path, published):
    """Return one row of the CSV as a dict, from a cell's artifact and its lineage."""
    cell = artifacts.read_json(path)
    spec = artifacts.read_spec(path.parent)
    distilled = spec["upstream"]["distilled"]
    # The papers' soft labels are ours whether they were stored or made online.
    labels = "hard" if identity["labels"] == "hard" else "soft"
    key = (*(str(identity[k]) for k in ("dataset", "kind", "ipc", "arch")), labels)
    number, deviation = published.get(key, (None, None))
    return {
        **identity,
        "accuracy": cell["accuracy"],
        "accuracy_best": cell["accuracy_best"],
        "accuracy_top5": cell["accuracy_top5"],
        "image_bytes": image_bytes(distilled),
        "label_bytes": label_bytes(spec),
        **seconds(spec),
        "device": (artifacts.read_timing(path.parent) or {}).get("device"),
        "published": number,
        "published_std": deviation,
        "digest": spec["digest"],
    }


def image_bytes(spec):
    """Return the bytes of a distilled set's encoded images."""
    table = artifacts.read_table(Path(spec["address"]) / "images.parquet", columns=["image"])
    return sum(len(image["bytes"]) for image in table["image"].to_pylist())


def label_bytes(spec):
    """Return the bytes of a student's labels: the table's file, or an int64 an image."""
    upstream = spec["upstream"]
    if "labels" in upstream:
        return (Path(upstream["labels"]["address"]) / "labels.parquet").stat().st_size
    distilled = upstream["distilled"]
    images = distilled["keys"]["ipc"] * len(distilled["settings"]["classes"])
    return images * HARD_LABEL_BYTES


def lineage(spec):
    """Return {folder: column} of an artifact and all that it is made from, each once.

    Per-class artifacts count for the classes that their user wants. The column of ``seconds_*`` is
    the stage's own; images that only a teacher was trained on belong to the teacher.
    """
    found = {}

    def walk(spec, classes, column):
        classes = spec["settings"].get("classes", classes)
        column = SECONDS.get(spec["stage"], column)
        folder = Path(spec["address"])
        folders = [folder]
        if spec["stage"] in PER_CLASS and "class_id" not in spec["keys"]:
            folders = [folder / safe_name(class_id) for class_id in classes]
        for one in folders:
            if found.setdefault(one, column) == "teacher":
                found[one] = column
        for part in spec["upstream"].values():
            walk(part, classes, column)

    walk(spec, (), "distill")
    return found


def seconds(spec):
    """Return the ``seconds_*`` columns: the whole lineage as if it had been made alone.

    A column is empty where a timing is missing.
    """
    totals = dict.fromkeys(("teacher", "denoiser", "distill", "label", "train"), 0.0)
    for folder, column in lineage(spec).items():
        timing = artifacts.read_timing(folder) or {}
        totals[column] += timing.get("seconds", float("nan"))
    return {f"seconds_{name}": round(total, 3) for name, total in totals.items()}


def _published(paths):
    """Return {(dataset, method, ipc, student, labels): (accuracy, std)} from the papers' CSVs."""
    numbers = {}
    for path in paths:
        for row in csv.DictReader(io.StringIO(path.read_text())):
            key = tuple(row[k] for k in ("dataset", "method", "ipc", "student", "labels"))
            deviation = float(row["std"]) if row["std"] else None
            numbers[key] = (float(row["accuracy"]), deviation)
    return numbers


def markdown(frame):
    """Return the table of one experiment as a paper would print it.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `cell_row`.

    Notes
    -----
    Mean ± standard deviation (n - 1) over the student seeds of one distilled set, one section a
    student, one row a distilled set, one column a protocol.
    """
    experiment = frame["experiment"].iloc[0]
    lines = [f"# {experiment}", ""]
    for (dataset, student), part in frame.groupby(["dataset", "student"], sort=False):
        lines += [f"## {dataset}, student {student}", "", *_section(part), ""]
    return "\n".join(lines + _notes(frame))


def _section(part):
    protocols = part["protocol"].unique()
    with_table = [p for p in protocols if (part[part["protocol"] == p]["labels"] == "soft").any()]
    header = ["method", "IPC", *(f"{p} [%]" for p in protocols), "images [kB]"]
    header += [f"labels, {p} [kB]" for p in protocols]
    header += ["teacher [s]", "distil [s]"]
    header += [f"label, {p} [s]" for p in with_table] + [f"train, {p} [s]" for p in protocols]
    seeds = part["distill_seed"].nunique() > 1
    rows = []
    for (method, ipc, seed), cells in part.groupby(["method", "ipc", "distill_seed"], sort=False):
        of = {p: cells[cells["protocol"] == p] for p in protocols}
        first = cells.iloc[0]
        kilobytes = [f"{c['label_bytes'].iloc[0] / 1000:.1f}" for c in of.values()]
        # A teacher that only the labels need is in the seconds of their protocol alone.
        spent = [cells["seconds_teacher"].max(), first["seconds_distill"]]
        spent += [of[p]["seconds_label"].mean() for p in with_table]
        spent += [c["seconds_train"].mean() for c in of.values()]
        rows.append(
            [
                f"{method} (seed {seed})" if seeds else method,
                str(ipc),
                *(_accuracy(c) for c in of.values()),
                f"{first['image_bytes'] / 1000:.1f}",
                *kilobytes,
                *("–" if pd.isna(s) else f"{s:.1f}" for s in spent),
            ]
        )
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    filled = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in [header, *rows]]
    filled.insert(1, ["-" * w for w in widths])
    return [f"| {' | '.join(row)} |" for row in filled]


def _accuracy(cells):
    """Return mean ± std of the reported accuracy, with the published number beside it."""
    column = "accuracy_best" if cells["report"].iloc[0] == "best" else "accuracy"
    values, published = cells[column], cells["published"].iloc[0]
    text = f"{values.mean():.1f}"
    if len(values) > 1:
        text += f" ± {values.std(ddof=1):.1f}"
    if pd.notna(published):
        text += f" (published {published:.1f})"
    return text


def _notes(frame):
    lines = []
    for protocol, cells in frame.groupby("protocol", sort=False):
        when = {
            "last": "after the last epoch",
            "best": "best of the evaluations on the test split in the last fifth of the epochs",
        }[cells["report"].iloc[0]]
        encoding = cells["label_encoding"].iloc[0]
        kind = f"{cells['labels'].iloc[0]} labels" + (f" ({encoding})" if encoding else "")
        teachers = cells["label_teachers"].iloc[0]
        lines.append(f"- {protocol}: {kind}{f' of {teachers}' if teachers else ''}; {when}.")
    seeds = frame["seed"].nunique()
    lines += [
        f"- Test accuracy, mean ± standard deviation (n - 1) over {seeds} student seeds of one "
        "distilled set."
        if seeds > 1
        else "- Test accuracy of one student seed.",
        "- Bytes of a whole set: encoded images; the stored label table, or 8 bytes a hard label.",
        "- Seconds on " + ", ".join(sorted({str(d) for d in frame["device"]})) + ": of everything "
        "that a set and its labels are made from, as if made alone; `train` is one student.",
    ]
    return lines
