"""Sets made elsewhere in Parquet files, in Hugging Face layout."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.artifacts import foreign_files
from stillhouse.data.distilled_set import LABEL_KINDS
from stillhouse.data.sources.parquet_files import class_names
from stillhouse.errors import LISTED, StillhouseError, one_line
from stillhouse.methods.given.sets import GivenSet, positions, soft_labels


def from_parquet(files, classes):
    """Return the `GivenSet` of Parquet files with columns ``image`` and ``label``.

    Images are struct{bytes, path} or binary; labels are class ids, or integers, which are positions
    in the class names of Hugging Face's metadata, if these are class ids of the dataset, else in
    the dataset. A distilled set of Stillhouse keeps its learned labels and its learning rate.
    """
    place = str(files.paths[0] if len(files.names) == 1 else files.root)
    tables = [_read(path) for path in files.paths]
    images = [
        image for path, t in zip(files.paths, tables, strict=True) for image in _images(path, t)
    ]
    labels = np.concatenate(
        [_labels(str(p), t, classes) for p, t in zip(files.paths, tables, strict=True)]
    )
    learned = [table for table in tables if "learned_label" in table.column_names]
    metadata = tables[0].schema.metadata or {}
    rate = metadata.get(b"learning_rate")
    if len(learned) not in (0, len(tables)):
        raise StillhouseError(f"{place}: learned_label: missing column in some files; remove it")
    soft = kind = None
    if learned:
        rows = [row for table in learned for row in table["learned_label"].to_pylist()]
        soft, kind, labels = soft_labels(place, _matrix(place, rows), classes, labels)
        stored = metadata.get(b"learned_label_kind", b"").decode(errors="replace")
        kind = stored if stored in LABEL_KINDS else kind
    return GivenSet(place, images, labels, soft, kind, _rate(place, rate))


def _read(path):
    try:
        names = pq.read_schema(path).names
        wanted = [name for name in ("image", "label", "learned_label") if name in names]
        table = pq.ParquetFile(path).read(columns=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        what = foreign_files.placeholder_file(path) or f"({one_line(error)}); copy it again"
        raise StillhouseError(f"{path}: not a readable Parquet file {what}") from None
    for name in ("image", "label"):
        if table.column_names.count(name) != 1:
            listed = one_line(", ".join(names[:LISTED]))
            raise StillhouseError(f"{path}: missing column {name!r}; rename one of {listed}")
    return table


def _images(path, table):
    for row, value in enumerate(_values(path, table, "image")):
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes) or not data:
            raise StillhouseError(
                f"{path}: row {row}: no bytes in column 'image'; must be struct{{bytes, path}} or "
                "binary, with the content of image files"
            )
        yield data


def _labels(path, table, classes):
    values = _values(path, table, "label")
    names = class_names(table.schema.metadata, "label")
    if names and set(names) <= set(classes) and all(isinstance(v, int) for v in values):
        if not all(0 <= value < len(names) for value in values):
            raise StillhouseError(f"{path}: label: must be 0 to {len(names) - 1}, as its metadata")
        values = [names[value] for value in values]
    if any(value is None for value in values):
        raise StillhouseError(f"{path}: label: missing in some rows; must be one per image")
    try:
        return positions(path, np.array(values), classes)
    except ValueError:  # rows of different lengths
        raise StillhouseError(f"{path}: label: must be one per image") from None


def _values(path, table, name):
    try:
        return table[name].to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise StillhouseError(
            f"{path}: column {name!r}: not readable ({one_line(error)})"
        ) from None


def _matrix(place, rows):
    try:
        return np.array(rows, np.float32)
    except (TypeError, ValueError):
        raise StillhouseError(
            f"{place}: learned_label: must be one number per class in every row; store it so"
        ) from None


def _rate(place, text):
    try:
        return None if text is None else float(text)
    except ValueError:
        raise StillhouseError(f"{place}: learning_rate: must be a number; correct it") from None
