"""Soft labels: teacher logits of recorded views, one table per distilled set (FKD)."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import TableCheckpoint
from stillhouse.artifacts.formats import RowGroups
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.stages import LABELS
from stillhouse.augmentation.ops import NAMES
from stillhouse.augmentation.views import Views, draw, render
from stillhouse.data.distilled_set import SCHEMA, read_set
from stillhouse.data.transforms import normalise
from stillhouse.errors import StillhouseError
from stillhouse.evaluation.teacher_ensemble import TeacherEnsemble

# The largest number of float16.
HALF = 65504.0
FRACTIONS = pa.list_(pa.float32(), 4)
OPERATION = pa.struct([("op", pa.string()), ("magnitude", pa.float32())])


def labels(inputs, spec, context):
    """Stage: store teacher logits for the augmented views of every epoch."""
    return SoftLabels(inputs, spec, context)


class SoftLabels:
    """Compute the soft label table of a distilled set."""

    def __init__(self, inputs, spec, context):
        self.settings = spec["settings"]
        self.teacher_names = [f"{t['slug']}-{t['digest']}" for t in spec["upstream"]["teachers"]]
        path, device = inputs["distilled"], context.torch_device()
        classes = store.read_spec(path.parent)["settings"]["classes"]
        pixels, self.hard = read_set(store.read_table(path, schema=SCHEMA))
        self.images = torch.from_numpy(pixels).to(device)
        self.teachers = TeacherEnsemble(inputs["teachers"], classes, device)
        self.schema = table_schema(self.settings, len(classes))
        self.max_batch = context.batch_size

    def __call__(self, member, context):
        """Return the file of the label table."""
        settings = self.settings
        groups = resumed_epochs(self.epoch_table, settings["epochs_stored"], self.schema, context)
        correct = recognised(self.teachers, self.images, self.hard, context.batch_size)
        metadata = {
            "encoding": settings["encoding"],
            "resolution": str(self.images.shape[-1]),
            "mix": settings["views"]["mix"],
            "mix_per": settings["views"].get("mix_per", "row"),
            "teachers": json.dumps(self.teacher_names),
            "recognised": repr(correct),
        }
        return {"labels.parquet": RowGroups(self.schema.with_metadata(metadata), groups)}

    def epoch_table(self, epoch):
        """Return the table of one epoch."""
        settings, images = self.settings, self.images
        n, side = len(images), images.shape[-1]
        batch = settings.get("batch_size", self.max_batch)
        views = draw(settings["views"], settings["seed"], epoch, n, side, batch)
        # Complete batches per pass, so that it contains both images of each mix.
        step = max(self.max_batch // batch, 1) * batch
        on_device = views.to(images.device)
        outputs = [
            self.teachers(render(images, on_device, first, min(first + step, n)))
            for first in range(0, n, step)
        ]
        return to_table(epoch, views, torch.cat(outputs).cpu().numpy(), settings, side)


def recognised(teachers, images, labels, batch_size):
    """Return the accuracy [%] of teachers on the distilled images, without augmentation.

    Parameters
    ----------
    teachers : TeacherEnsemble
    images : (n, 3, side, side) uint8 tensor
    labels : (n,) int64 array
    batch_size : int
    """
    outputs = torch.cat([teachers(normalise(batch)) for batch in images.split(batch_size)])
    return 100 * float((outputs.argmax(1).cpu().numpy() == np.asarray(labels)).mean())


def resumed_epochs(make_epoch, epochs, schema, context):
    """Yield the tables of all epochs; those of an earlier job from its checkpoint.

    Parameters
    ----------
    make_epoch : callable
        From the epoch to its table.
    epochs : int
    schema : pyarrow.Schema
    context : stillhouse.artifacts.context.Context
    """
    checkpoint, done = TableCheckpoint(context, schema), 0
    for table in checkpoint.resume("labels", "epoch"):
        yield table
        done += 1
    for epoch in track(range(done, epochs), epochs - done, "label epoch"):
        table = make_epoch(epoch)
        yield table
        checkpoint.add(table)


def table_schema(settings, n_classes):
    """Return the schema of a soft label table; the columns of the logits depend on the encoding."""
    encoding = settings["encoding"]
    if encoding == "float16":
        logits = [("logits", pa.list_(pa.float16(), n_classes))]
    elif encoding == "int8":
        # Parquet stores a list of int8 as 32-bit numbers: bytes are a third smaller.
        logits = [("logits", pa.binary(n_classes)), ("logit_scale", pa.float32())]
    else:
        top = int(encoding.removeprefix("top"))
        logits = [
            ("logits", pa.list_(pa.float16(), top)),
            ("logit_classes", pa.list_(pa.int16(), top)),
            ("logit_rest", pa.float16()),
        ]
    return pa.schema(
        [
            ("epoch", pa.int32()),
            ("index", pa.int32()),
            ("crop", FRACTIONS),
            ("flip", pa.bool_()),
            ("mix_index", pa.int32()),
            ("mix_box", FRACTIONS),
            ("mix_weight", pa.float32()),
            ("patch_order", pa.list_(pa.int8())),
            ("augment", pa.list_(OPERATION)),
            *logits,
        ]
    )


def to_table(epoch, views, logits, settings, resolution):
    """Return one epoch of a label table.

    Parameters
    ----------
    epoch : int
    views : Views
        Of arrays.
    logits : (n, classes) float32 array
        In the order of the views.
    settings : dict
        ``encoding``.
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
        "crop": _fixed(views.box / resolution, np.float32),
        "flip": views.flip,
        "mix_index": partner.astype(np.int32),
        "mix_box": _fixed(views.mix_box / resolution, np.float32),
        "mix_weight": views.mix_weight,
        "patch_order": pa.ListArray.from_arrays(offsets, order.ravel()),
        "augment": _augment_column(views.op, views.magnitude),
        **encode_logits(logits, settings["encoding"]),
    }
    return pa.table(columns, schema=table_schema(settings, logits.shape[1]))


def _augment_column(op, magnitude):
    names = pa.array(np.array(NAMES)[op.ravel()], pa.string())
    flat = pa.StructArray.from_arrays([names, magnitude.ravel()], fields=list(OPERATION))
    return pa.ListArray.from_arrays(np.arange(len(op) + 1, dtype=np.int32) * op.shape[1], flat)


def encode_logits(logits, encoding):
    """Return the columns of encoded logits, (n, classes) float32.

    ``float16``: all logits. ``int8``: all logits as signed bytes, in steps of the row's largest
    magnitude / 127, so that the error is at most half a step. ``topK``: the K largest, their
    classes, and the mean of the others, so that the softmax is exact to first order in
    (logit - mean) / temperature.

    Raises
    ------
    StillhouseError
        If a logit exceeds the largest float16, with ``float16`` or ``topK``.
    """
    largest = float(np.abs(logits).max())
    if encoding != "int8" and largest > HALF:
        raise StillhouseError(
            f"labels.encoding: a logit of {largest:.3g} conflicts with {encoding}, whose largest "
            f"number is {HALF:.0f}; set int8, or lower the learning_rate of the teachers"
        )
    if encoding == "float16":
        return {"logits": _fixed(logits, np.float16)}
    if encoding == "int8":
        scale = (np.abs(logits).max(1) / 127).astype(np.float32)
        steps = np.rint(logits / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
        rows = [row.tobytes() for row in steps]
        return {"logits": pa.array(rows, pa.binary(steps.shape[1])), "logit_scale": scale}
    top = int(encoding.removeprefix("top"))
    ranked = np.argsort(-logits, axis=1, kind="stable")
    sorted_logits = np.take_along_axis(logits, ranked, axis=1)
    return {
        "logits": _fixed(sorted_logits[:, :top], np.float16),
        "logit_classes": _fixed(ranked[:, :top], np.int16),
        "logit_rest": pa.array(sorted_logits[:, top:].mean(1).astype(np.float16)),
    }


def decode_logits(table, n_classes):
    """Return the logits of a label table's rows, (n, n_classes) float32; see `encode_logits`."""
    if "logit_scale" in table.column_names:
        steps = np.frombuffer(b"".join(table["logits"].to_pylist()), np.int8)
        return steps.reshape(-1, n_classes) * table["logit_scale"].to_numpy()[:, None]
    logits = _matrix(table["logits"]).astype(np.float32)
    if "logit_classes" not in table.column_names:
        return logits
    classes = _matrix(table["logit_classes"]).astype(np.int64)
    rest = table["logit_rest"].to_numpy().astype(np.float32)
    dense = np.repeat(rest[:, None], n_classes, axis=1)
    np.put_along_axis(dense, classes, logits, axis=1)
    return dense


def _fixed(matrix, dtype):
    flat = pa.array(np.ascontiguousarray(matrix, dtype=dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _matrix(column):
    array = column.combine_chunks()
    return array.values.to_numpy(zero_copy_only=False).reshape(len(array), -1)


class SoftLabelTable:
    """A soft label table, read one epoch at a time.

    Parameters
    ----------
    path : Path
    n_classes : int
    """

    def __init__(self, path, n_classes):
        spec = store.read_spec(path.parent)
        if spec["stage"] != LABELS.name:
            raise store.WrongType(path, "must be a soft label table")
        self.file = store.open_row_groups(path, table_schema(spec["settings"], n_classes))
        self.n_classes = n_classes
        metadata = self.file.schema_arrow.metadata
        self.resolution = int(metadata[b"resolution"])
        self.mix = metadata[b"mix"].decode()

    def epoch(self, epoch):
        """Return (Views, logits) of an epoch; past the last stored one, stored epochs repeat."""
        table = self.file.read_row_group(epoch % self.file.num_row_groups)
        index = table["index"].to_numpy().astype(np.int64)
        mix_index = table["mix_index"].to_numpy()
        place = np.empty(len(index), np.int64)
        place[index] = np.arange(len(index))
        order = table["patch_order"].combine_chunks().flatten().to_numpy()
        augment = table["augment"].combine_chunks().flatten()
        op = pc.index_in(augment.field("op"), pa.array(NAMES)).to_numpy()
        magnitude = augment.field("magnitude").to_numpy()
        views = Views(
            mix=self.mix,
            index=index,
            box=self._pixels(table["crop"]),
            flip=table["flip"].to_numpy(),
            patch_order=order.astype(np.int64).reshape(len(index), -1),
            partner=np.where(mix_index < 0, -1, place[mix_index]),
            mix_box=self._pixels(table["mix_box"]),
            mix_weight=table["mix_weight"].to_numpy(),
            op=op.astype(np.int64).reshape(len(index), -1),
            magnitude=magnitude.reshape(len(index), -1),
        )
        return views, decode_logits(table, self.n_classes)

    def _pixels(self, column):
        """Return boxes stored as fractions of the side in pixels, (n, 4) int64."""
        return np.rint(_matrix(column) * self.resolution).astype(np.int64)
