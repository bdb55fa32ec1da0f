"""Soft label tables: a Parquet file of recorded views and teacher logits (docs/soft-labels.md).

from stillhouse import load_labels, render
labels = load_labels("results/labels/digits-rded-…/labels.parquet")
views, logits = labels.epoch(0)
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from stillhouse.artifacts import store
from stillhouse.augmentation.ops import NAMES
from stillhouse.augmentation.views import GENERATOR, Views, draw
from stillhouse.errors import StillhouseError
from stillhouse.evaluation.logit_encodings import (
    decode_logits,
    encode_logits,
    fixed_lists,
    logit_columns,
    matrix,
)

FRACTIONS = pa.list_(pa.float32(), 4)
OPERATION = pa.struct([("op", pa.string()), ("magnitude", pa.float32())])
VIEW_COLUMNS = (
    ("index", pa.int32()),
    ("crop", FRACTIONS),
    ("flip", pa.bool_()),
    ("mix_index", pa.int32()),
    ("mix_box", FRACTIONS),
    ("mix_weight", pa.float32()),
    ("patch_order", pa.list_(pa.int8())),
    ("augment", pa.list_(OPERATION)),
)
# Size of a row group, in epochs; the bytes of a row's view are a rough estimate.
GROUP_BYTES = 2**22
VIEW_BYTES = 64
# Few different values, and floating-point numbers whose high bytes repeat.
PARQUET = {
    "use_dictionary": ["crop.list.element", "mix_box.list.element", "mix_weight"],
    "use_byte_stream_split": ["logits.list.element", "logit_scale", "logit_rest"],
}


def table_schema(encoding, views_stored, n_classes):
    """Return the schema of a soft label table, without metadata."""
    views = VIEW_COLUMNS if views_stored else ()
    return pa.schema([("epoch", pa.int32()), *views, *logit_columns(encoding, n_classes)])


def epochs_per_group(n_images, n_classes):
    """Return the epochs of a row group: as many as fit into `GROUP_BYTES`, at least one."""
    return max(GROUP_BYTES // (n_images * (VIEW_BYTES + 2 * n_classes)), 1)


def grouped(tables, size):
    """Yield tables of `size` of the given tables each, the last possibly of fewer."""
    waiting = []
    for table in tables:
        waiting.append(table)
        if len(waiting) == size:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def to_table(epoch, views, logits, encoding, resolution):
    """Return one epoch of a label table, with its views.

    Parameters
    ----------
    epoch : int
    views : Views
        Of arrays.
    logits : (n, classes) float32 array
        In the order of the views.
    encoding : str
    resolution : int
        Side of the distilled images [px].
    """
    n = len(logits)
    partner = np.where(views.partner < 0, -1, views.index[views.partner])
    order = views.patch_order.astype(np.int8)
    offsets = np.arange(n + 1, dtype=np.int32) * order.shape[1]
    columns = {
        "epoch": np.full(n, epoch, np.int32),
        "index": views.index.astype(np.int32),
        "crop": fixed_lists(views.box / resolution, np.float32),
        "flip": views.flip,
        "mix_index": partner.astype(np.int32),
        "mix_box": fixed_lists(views.mix_box / resolution, np.float32),
        "mix_weight": views.mix_weight,
        "patch_order": pa.ListArray.from_arrays(offsets, order.ravel()),
        "augment": _augment_column(views.op, views.magnitude),
        **encode_logits(logits, encoding),
    }
    return pa.table(columns, schema=table_schema(encoding, True, logits.shape[1]))


def _augment_column(op, magnitude):
    names = pa.array(np.array(NAMES)[op.ravel()], pa.string())
    flat = pa.StructArray.from_arrays([names, magnitude.ravel()], fields=list(OPERATION))
    return pa.ListArray.from_arrays(np.arange(len(op) + 1, dtype=np.int32) * op.shape[1], flat)


def load_labels(path, device="cpu"):
    """Open a soft label table.

    Parameters
    ----------
    path : str or Path
        ``labels.parquet``, in ``results/`` or copied elsewhere, with or without its ``spec.json``.
    device : str or torch.device
        Of the views and logits.

    Returns
    -------
    SoftLabelTable

    Raises
    ------
    stillhouse.errors.StillhouseError
        If the file is missing, altered or no soft label table, or if its views are drawn by another
        version of the generator.
    """
    return SoftLabelTable(path, device)


class SoftLabelTable:
    """A soft label table, of which a row group at a time is in memory; see `load_labels`.

    Parameters
    ----------
    path : str or Path
    device : str or torch.device

    Attributes
    ----------
    metadata : dict of str to str
    n_images : int
        Rows of an epoch, images of the distilled set.
    n_classes : int
    resolution : int
        Side of the distilled images [px].
    batch_size : int or None
        Images per step, where views depend on the batch; else None.
    """

    def __init__(self, path, device="cpu"):
        self.path, self.device = path, device
        self.stored = store.open_copy(path)
        raw = self.stored.schema_arrow.metadata or {}
        self.metadata = {name.decode(): text.decode() for name, text in raw.items()}
        try:
            schema = self._read_metadata()
        except (KeyError, ValueError, ZeroDivisionError):
            raise store.WrongType(path, "must be a soft label table") from None
        store.check_schema(path, schema)
        if self.drawn is not None:
            self._check_generator()
        self.group = self.rows = None

    def __len__(self):
        """Return the number of stored epochs."""
        return self.n_epochs

    def epoch(self, epoch):
        """Return (views, logits) of an epoch; past the last stored one, stored epochs repeat.

        Views are a `stillhouse.augmentation.views.Views` of tensors, logits (n_images, n_classes)
        float32 in their order.
        """
        epoch %= self.n_epochs
        group, place = divmod(epoch, self.group_epochs)
        if group != self.group:
            self.group, self.rows = group, self.stored.read_row_group(group)
        rows = self.rows.slice(place * self.n_images, self.n_images)
        views = self._recorded(rows) if self.drawn is None else self._draw(epoch)
        logits = torch.from_numpy(decode_logits(rows, self.n_classes))
        return views.to(self.device), logits.to(self.device)

    def _read_metadata(self):
        """Set the attributes and return the schema."""
        text, parquet = self.metadata, self.stored.metadata
        self.mix, self.n_classes = text["mix"], int(text["n_classes"])
        self.n_images, self.resolution = int(text["n_images"]), int(text["resolution"])
        self.batch_size = int(text["batch_size"]) if "batch_size" in text else None
        self.drawn = json.loads(text["views"]) if "views" in text else None
        self.seed = None if self.drawn is None else int(text["seed"])
        sizes = [parquet.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        if set(sizes[:-1]) - {sizes[0]} or any(n % self.n_images for n in sizes) or not sum(sizes):
            raise ValueError("row groups must have complete epochs")
        self.n_epochs, self.group_epochs = (n // self.n_images for n in (sum(sizes), sizes[0]))
        return table_schema(text["encoding"], self.drawn is None, self.n_classes)

    def _check_generator(self):
        """Raise a `StillhouseError` if the views would not be those that the logits are of."""
        version = self.metadata.get("view_generator")
        if version != str(GENERATOR):
            raise StillhouseError(
                f"{self.path}: view_generator: {version} must be {GENERATOR}; use the version of "
                "Stillhouse that made the table, or recompute it"
            )
        if self._draw(0).checksum() != self.metadata.get("views_sha256"):
            raise StillhouseError(
                f"{self.path}: views_sha256: not that of the views drawn here; use the versions "
                "of NumPy and SciPy that made the table, or recompute it"
            )

    def _draw(self, epoch):
        batch_size = self.batch_size or self.n_images  # of no effect where the table has none
        return draw(self.drawn, self.seed, epoch, self.n_images, self.resolution, batch_size)

    def _recorded(self, rows):
        """Return the views that are stored in rows, of arrays."""
        n = len(rows)
        index = rows["index"].to_numpy().astype(np.int64)
        mix_index = rows["mix_index"].to_numpy()
        position = np.empty(n, np.int64)
        position[index] = np.arange(n)
        order = rows["patch_order"].combine_chunks().flatten().to_numpy()
        augment = rows["augment"].combine_chunks().flatten()
        op = pc.index_in(augment.field("op"), pa.array(NAMES)).to_numpy()
        magnitude = augment.field("magnitude").to_numpy()
        return Views(
            mix=self.mix,
            index=index,
            box=self._pixels(rows["crop"]),
            flip=rows["flip"].to_numpy(),
            patch_order=order.astype(np.int64).reshape(n, -1),
            partner=np.where(mix_index < 0, -1, position[mix_index]),
            mix_box=self._pixels(rows["mix_box"]),
            mix_weight=rows["mix_weight"].to_numpy(),
            op=op.astype(np.int64).reshape(n, -1),
            magnitude=magnitude.reshape(n, -1),
        )

    def _pixels(self, column):
        """Return boxes stored as fractions of the side in pixels, (n, 4) int64."""
        return np.rint(matrix(column) * self.resolution).astype(np.int64)
