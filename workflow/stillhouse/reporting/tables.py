"""Tables: one CSV row a cell, and Markdown and LaTeX as a paper would print them."""

import functools
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import safe_name
from stillhouse.data.index import skipped_images
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.planning.plan import PER_CLASS
from stillhouse.reporting import latex, published, table_layout
from stillhouse.reporting import notes as saturation

COLUMNS = """
experiment dataset method fidelity ipc distill_seed teacher labels label_encoding student protocol
seed accuracy accuracy_best accuracy_top5 image_bytes label_bytes seconds_teacher seconds_denoiser
seconds_distill seconds_label seconds_train device published published_std digest recognised
statistics_bytes
""".split()  # noqa: SIM905
TEXTS = """
experiment dataset method fidelity teacher labels label_encoding student protocol device digest
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
    """Write the CSV, the Markdown and the LaTeX of one experiment from its cells.

    Parameters
    ----------
    inputs : dict
        ``cells`` (a ``cell.json`` for each of ``params["cells"]``, in the same order),
        ``published`` (CSV files of the papers' numbers) and ``indexes`` (for `left_out`).
    params : dict
        ``cells``: the identity of each cell; ``report`` says which accuracy the tables show.
    outputs : dict
        ``csv``, ``markdown`` and ``latex``.
    """
    numbers = published.read(inputs["published"])
    # What many cells are made from is read once.
    timing = functools.cache(store.read_timing)
    rows = [
        cell_row(identity, path, numbers, timing)
        for identity, path in zip(params["cells"], inputs["cells"], strict=True)
    ]
    frame = pd.DataFrame(rows)
    text = frame[COLUMNS].to_csv(index=False, lineterminator="\n", float_format="%.4f")
    store.save_bytes(outputs["csv"], text.encode())
    # What everybody else reads: all say the same to the last digit.
    frame = read(outputs["csv"], params["cells"])
    notes = [*saturation.notes(frame), *left_out(inputs["indexes"])]
    store.save_bytes(outputs["markdown"], table_layout.markdown(frame, notes).encode())
    store.save_bytes(outputs["latex"], latex.latex(frame).encode())


def read(path, identities):
    """Return the frame of an experiment's cells from its CSV.

    Parameters
    ----------
    path : Path
    identities : list of dict
        The cells, in the order of the CSV; they know what it has no columns for.

    Returns
    -------
    pandas.DataFrame
        Rows of `cell_row`, with accuracies to four decimals.
    """
    texts = dict.fromkeys(TEXTS, str)
    numbers = {name: [""] for name in COLUMNS if name not in TEXTS}
    frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=numbers)
    missing = {name for identity in identities for name in identity} - set(frame)
    return frame.assign(**{n: [identity[n] for identity in identities] for n in sorted(missing)})


def left_out(indexes):
    """Return sentences on the images that sources were told to do without, as not readable.

    Parameters
    ----------
    indexes : list of Path
        ``index.parquet`` of every source with ``on_bad_image: skip``.
    """
    notes = []
    for path in indexes:
        name = store.read_spec(path.parent)["settings"]["name"]
        count = len(skipped_images(store.open_row_groups(path).schema_arrow))
        notes.append(f"Unreadable images of source {name} that were left out: {count}.")
    return notes


def cell_row(identity, path, numbers, timing=store.read_timing):
    """Return one row of the CSV as a dict, from a cell's artifact and its lineage.

    Parameters
    ----------
    identity : dict
    path : Path
        Its ``cell.json``.
    numbers : dict
        The papers', as `stillhouse.reporting.published.read` returns them.
    timing : callable
        From an artifact's folder to its ``timing.json``.
    """
    cell = store.read_json(path)
    spec = store.read_spec(path.parent)
    distilled = spec["upstream"]["distilled"]
    number, deviation = published.beside(numbers, identity, spec)
    return {
        **identity,
        "accuracy": cell["accuracy"],
        "accuracy_best": cell["accuracy_best"],
        "accuracy_top5": cell["accuracy_top5"],
        "image_bytes": image_bytes(distilled),
        "label_bytes": label_bytes(spec),
        **seconds(spec, timing),
        "device": (timing(path.parent) or {}).get("device"),
        "published": number,
        "published_std": deviation,
        "digest": spec["digest"],
        "recognised": recognised(spec),
        "statistics_bytes": statistics_bytes(distilled),
    }


def recognised(spec):
    """Return the share of a student's images that the teachers of its soft labels recognise [%].

    NaN where there is no table of soft labels. Of the table, which may be large, the end is read.
    """
    if "labels" not in spec["upstream"]:
        return float("nan")
    path = Path(spec["upstream"]["labels"]["address"]) / "labels.parquet"
    return float((pq.read_schema(path).metadata or {}).get(b"recognised", b"nan"))


def statistics_bytes(spec):
    """Return the bytes of the statistics that a distilled set, at any IPC, can be made from again.

    Mean and variance of every class, float32 (D3HR, section 6.7); NaN for other methods. The
    denoiser's weights, which all sets share, come to them.
    """
    start = spec["upstream"].get("decoded", {}).get("upstream", {}).get("start", {})
    inversion = start.get("upstream", {}).get("inversion")
    if inversion is None:
        return float("nan")
    classes = spec["settings"]["classes"]
    first = Path(inversion["address"]) / safe_name(classes[0]) / "inversion.safetensors"
    _, dimensions = store.tensor_shape(first, "mean")
    return len(classes) * 2 * 4 * dimensions


def image_bytes(spec):
    """Return the bytes of a distilled set's encoded images."""
    table = store.read_table(Path(spec["address"]) / "images.parquet", columns=["image"])
    return sum(len(image["bytes"]) for image in table["image"].to_pylist())


def label_bytes(spec):
    """Return the bytes of a student's labels: the table's file, or an int64 an image.

    NaN where teachers label in the loop: nothing is stored, and what they say has no end.
    """
    upstream = spec["upstream"]
    if spec["settings"]["labels"]["kind"] == "online":
        return float("nan")
    if "labels" in upstream:
        return (Path(upstream["labels"]["address"]) / "labels.parquet").stat().st_size
    distilled = upstream["distilled"]
    images = distilled["keys"]["ipc"] * len(distilled["settings"]["classes"])
    return images * HARD_LABEL_BYTES


def lineage(spec):
    """Return {folder: column} of an artifact and all that it is made from, each once.

    Per-class artifacts count for the classes that their user wants, a synthesis for all of its
    batches. The column of ``seconds_*`` is the stage's own; images that only a teacher or a
    denoiser was trained on belong to it.
    """
    found = {}

    def walk(spec, classes, column):
        classes = spec["settings"].get("classes", classes)
        column = SECONDS.get(spec["stage"], column)
        folder = Path(spec["address"])
        folders = [folder]
        if spec["stage"] in PER_CLASS and "class_id" not in spec["keys"]:
            folders = [folder / safe_name(class_id) for class_id in classes]
        elif spec["stage"] == "synthesis":
            count = len(batches(spec["settings"], spec["keys"]["ipc"]))
            folders = [folder.with_name(f"{folder.name}-batch{i}") for i in range(count)]
        for one in folders:
            if found.setdefault(one, column) in ("teacher", "denoiser"):
                found[one] = column
        for part in spec["upstream"].values():
            walk(part, classes, column)

    walk(spec, (), "distill")
    return found


def seconds(spec, timing):
    """Return the ``seconds_*`` columns: the whole lineage as if it had been made alone.

    A column is empty where a `timing` (see `cell_row`) is missing.
    """
    totals = dict.fromkeys(("teacher", "denoiser", "distill", "label", "train"), 0.0)
    for folder, column in lineage(spec).items():
        totals[column] += (timing(folder) or {}).get("seconds", float("nan"))
    return {f"seconds_{name}": round(total, 3) for name, total in totals.items()}
