"""Encodings of teacher logits as columns of a soft label table.

``float16``: all logits. ``intB``, B from 2 to 8: all logits as signed integers of B bits, a byte
each, in steps of the row's largest magnitude / (2^(B-1) - 1), so that the error is at most half a
step; Parquet's compression packs the few values of a small B. ``topK``: the K largest, their
classes, and the mean of the others, so that the softmax is exact to first order in
(logit - mean) / temperature.
"""

import numpy as np
import pyarrow as pa

from stillhouse.errors import StillhouseError

# The largest number of float16.
HALF = 65504.0


def logit_columns(encoding, n_classes):
    """Return the columns of encoded logits as [(name, type)]."""
    if encoding == "float16":
        return [("logits", pa.list_(pa.float16(), n_classes))]
    if encoding.startswith("int"):
        # Parquet stores a list of int8 as 32-bit numbers: bytes are a third smaller.
        return [("logits", pa.binary(n_classes)), ("logit_scale", pa.float32())]
    top = int(encoding.removeprefix("top"))
    return [
        ("logits", pa.list_(pa.float16(), top)),
        ("logit_classes", pa.list_(pa.int16(), top)),
        ("logit_rest", pa.float16()),
    ]


def encode_logits(logits, encoding):
    """Return the columns of encoded logits, (n, classes) float32.

    Raises
    ------
    StillhouseError
        If a logit exceeds the largest float16, with ``float16`` or ``topK``.
    """
    largest = float(np.abs(logits).max())
    if not encoding.startswith("int") and largest > HALF:
        raise StillhouseError(
            f"labels.encoding: a logit of {largest:.3g} conflicts with {encoding}, whose largest "
            f"number is {HALF:.0f}; set int8, or lower the learning_rate of the teachers"
        )
    if encoding == "float16":
        return {"logits": fixed_lists(logits, np.float16)}
    if encoding.startswith("int"):
        n_steps = 2 ** (int(encoding.removeprefix("int")) - 1) - 1
        scale = (np.abs(logits).max(1) / n_steps).astype(np.float32)
        steps = np.rint(logits / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8)
        rows = [row.tobytes() for row in steps]
        return {"logits": pa.array(rows, pa.binary(steps.shape[1])), "logit_scale": scale}
    top = int(encoding.removeprefix("top"))
    ranked = np.argsort(-logits, axis=1, kind="stable")
    sorted_logits = np.take_along_axis(logits, ranked, axis=1)
    return {
        "logits": fixed_lists(sorted_logits[:, :top], np.float16),
        "logit_classes": fixed_lists(ranked[:, :top], np.int16),
        "logit_rest": pa.array(sorted_logits[:, top:].mean(1).astype(np.float16)),
    }


def decode_logits(table, n_classes):
    """Return the logits of a label table's rows, (n, n_classes) float32; see `encode_logits`."""
    if "logit_scale" in table.column_names:
        steps = np.frombuffer(b"".join(table["logits"].to_pylist()), np.int8)
        return steps.reshape(-1, n_classes) * table["logit_scale"].to_numpy()[:, None]
    logits = matrix(table["logits"]).astype(np.float32)
    if "logit_classes" not in table.column_names:
        return logits
    classes = matrix(table["logit_classes"]).astype(np.int64)
    rest = table["logit_rest"].to_numpy().astype(np.float32)
    dense = np.repeat(rest[:, None], n_classes, axis=1)
    np.put_along_axis(dense, classes, logits, axis=1)
    return dense


def fixed_lists(array, dtype):
    """Return a matrix as an array of lists of fixed size."""
    flat = pa.array(np.ascontiguousarray(array, dtype=dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def matrix(column):
    """Return a column of lists of fixed size as a matrix."""
    values = column.combine_chunks().flatten()
    return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)
