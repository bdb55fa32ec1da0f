"""Distilled sets: the output file of every method, and a torch dataset of it.

One Parquet file, a row group per class. A method that learns labels or a learning rate together
with the images stores them in the same file, see `LearnedParts`.

from stillhouse import DistilledSet
images = DistilledSet("results/distilled/digits/rded-…/ipc10-seed0/images.parquet")
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import store
from stillhouse.data.boxes import BOX_COLUMNS
from stillhouse.data.codecs import IMAGE, decode
from stillhouse.errors import StillhouseError

# Boxes of source images that make up a distilled image; empty for a synthetic one.
ORIGIN = pa.list_(
    pa.struct([("image_id", pa.string()), *((name, pa.int32()) for name in BOX_COLUMNS)])
)
SCHEMA = pa.schema(
    [
        ("image", IMAGE),
        ("label", pa.int64()),
        ("class_id", pa.string()),
        ("index", pa.int32()),
        ("origin", ORIGIN),
    ]
)
LABEL_KINDS = ("logits", "probabilities")


@dataclass(frozen=True)
class LearnedParts:
    """Labels and learning rate that a method has learned with the images of a distilled set.

    Parameters
    ----------
    labels : (n, n_classes) float32 array, optional
        One per image, in the order of the rows.
    label_kind : str, optional
        ``logits`` or ``probabilities``; required with `labels`.
    learning_rate : float, optional
        For the training of students.
    """

    labels: np.ndarray | None = None
    label_kind: str | None = None
    learning_rate: float | None = None

    def metadata(self):
        """Return the parts that are stored as file metadata, as text."""
        values = {"learned_label_kind": self.label_kind, "learning_rate": self.learning_rate}
        return {name: str(value) for name, value in values.items() if value is not None}


def set_schema(metadata, learned=None):
    """Return the schema of a distilled set.

    Parameters
    ----------
    metadata : dict of str to str
        As returned by `set_metadata`.
    learned : LearnedParts, optional
        Its labels add the column ``learned_label``, (n_classes,) float32 per row; the rest is
        added to the metadata.
    """
    if learned is None:
        return SCHEMA.with_metadata(metadata)
    schema = SCHEMA
    if learned.labels is not None:
        n_classes = learned.labels.shape[1]
        schema = schema.append(pa.field("learned_label", pa.list_(pa.float32(), n_classes)))
    return schema.with_metadata({**metadata, **learned.metadata()})


def set_metadata(spec):
    """Return the file metadata of a distilled set, including Hugging Face's column types."""
    names = spec["settings"]["classes"]
    box = {"image_id": _value("string")} | {name: _value("int32") for name in BOX_COLUMNS}
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
        "class_id": _value("string"),
        "index": _value("int32"),
        "origin": [box],
    }
    return {
        "dataset": spec["folder"],
        "class_names": json.dumps(names),
        "method": spec["slug"],
        "ipc": str(spec["keys"]["ipc"]),
        "seed": str(spec["keys"]["seed"]),
        "spec": json.dumps(spec, sort_keys=True),
        "huggingface": json.dumps({"info": {"features": features}}),
    }


def _value(dtype):
    return {"dtype": dtype, "_type": "Value"}


def read_set(table):
    """Return (images, labels) of a distilled set's table.

    images : (n, 3, side, side) uint8 array; labels : (n,) int64 array; in the order of the rows.
    """
    pixels = [decode(row["bytes"], row["path"]) for row in table["image"].to_pylist()]
    return np.stack(pixels), table["label"].to_numpy()


def read_learned(parquet_file):
    """Return the `LearnedParts` of a distilled set; None for a set without any.

    Parameters
    ----------
    parquet_file : str or Path
        ``images.parquet`` of the set.
    """
    return _learned(store.open_row_groups(parquet_file, schema=SCHEMA), parquet_file)


def _learned(stored, path):
    """Return the `LearnedParts` of an opened Parquet file; None for a set without any."""
    schema = stored.schema_arrow
    metadata = {name.decode(): text for name, text in (schema.metadata or {}).items()}
    labels = kind = None
    if "learned_label" in schema.names:
        kind = metadata.get("learned_label_kind", b"").decode()
        if kind not in LABEL_KINDS:
            raise StillhouseError(
                f"{path}: learned_label_kind: invalid {kind!r}; must be one of "
                f"{', '.join(LABEL_KINDS)}"
            )
        column = stored.read(columns=["learned_label"])["learned_label"].combine_chunks()
        n_classes = schema.field("learned_label").type.list_size
        labels = column.flatten().to_numpy().reshape(-1, n_classes)
    learning_rate = float(metadata["learning_rate"]) if "learning_rate" in metadata else None
    if labels is None and learning_rate is None:
        return None
    return LearnedParts(labels, kind, learning_rate)


class DistilledSet:
    """A distilled set as a map-style dataset of pairs (image, label), for PyTorch's `DataLoader`.

    Parameters
    ----------
    path : str or Path
        ``images.parquet`` of a set, in ``results/`` or copied elsewhere, with or without its
        ``spec.json``.
    transform : callable, optional
        Function of a (3, height, width) uint8 tensor.

    Attributes
    ----------
    images : (n, 3, height, width) uint8 tensor
    labels : (n,) int64 tensor
    class_ids : list of str
        One per image.
    learned_labels : (n, n_classes) float32 tensor or None
        Labels learned by the method; `learned_label_kind` is ``logits`` or ``probabilities``.
    learning_rate : float or None
        Learning rate of students, learned by the method.

    Raises
    ------
    stillhouse.errors.StillhouseError
        If the file is damaged or not a distilled set.
    """

    def __init__(self, path, transform=None):
        import torch  # jobs that write sets need none

        stored = store.open_copy(path, schema=SCHEMA)
        table = stored.read()
        images, labels = read_set(table)
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(np.array(labels))
        self.class_ids = table["class_id"].to_pylist()
        learned = _learned(stored, path) or LearnedParts()
        self.learned_labels = None
        if learned.labels is not None:
            self.learned_labels = torch.from_numpy(np.array(learned.labels))
        self.learned_label_kind = learned.label_kind
        self.learning_rate = learned.learning_rate
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, label = self.images[index], int(self.labels[index])
        return (self.transform(image) if self.transform else image), label
