"""Checks that numbers are finite: of plain values, tables and tensors, and of JSON text.

Every artifact is checked while it is written and while it is read, so that no NaN or infinity is
stored or used. The Snakefile imports this module: functions import heavy packages on demand.
"""

import json
import math

from stillhouse.errors import StillhouseError

CAUSES = (
    "the usual causes are a training that diverged (lower its learning_rate) and an overflow in "
    "half precision (set precision: bfloat16 or float32)"
)


class NotFinite(StillhouseError):
    """A number that is NaN or infinite where artifacts are written or read.

    Parameters
    ----------
    name : str
        Key, column or tensor.
    count, total : int
        Numbers that are not finite, and all numbers.
    """

    def __init__(self, name, count, total):
        numbers = f"{count} of {total} numbers are" if total > 1 else "is"
        super().__init__(f"{name}: {numbers} not finite")


def check_values(value, path=()):
    """Raise `NotFinite` for a NaN or an infinity in plain values, with its dotted path."""
    if isinstance(value, dict):
        for name, part in value.items():
            check_values(part, (*path, name))
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            check_values(part, (*path, i))
    elif isinstance(value, float) and not math.isfinite(value):
        raise NotFinite(".".join(map(str, path)) or "the value", 1, 1)


def check_tensors(tensors):
    """Raise `NotFinite` for a tensor with a NaN or an infinity; tensors on the CPU, by name."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.numel() == 0:
            continue
        if tensor.element_size() == 1:  # eight-bit floats have no minimum
            tensor = tensor.float()
        # A minimum propagates NaN, and takes a twelfth of the time of `isfinite`.
        if not all(math.isfinite(extreme.item()) for extreme in tensor.aminmax()):
            count = int((~tensor.isfinite()).sum())
            raise NotFinite(f"tensor {name!r}", count, tensor.numel())


def check_table(table):
    """Raise `NotFinite` for a column of a pyarrow Table with a NaN or an infinity, at any depth."""
    for name in table.column_names:
        for chunk in table[name].chunks:
            _check_array(name, chunk)


def _check_array(name, array):
    import numpy as np
    import pyarrow as pa

    kind = array.type
    if pa.types.is_struct(kind):
        for i, part in enumerate(array.flatten()):
            _check_array(f"{name}.{kind.field(i).name}", part)
    elif pa.types.is_nested(kind):
        _check_array(name, array.flatten())
    elif pa.types.is_floating(kind):
        numbers = array.drop_null().to_numpy(zero_copy_only=False)
        if numbers.dtype == np.float16:
            # All bits of the exponent are set: a quarter of the time of NumPy's `isfinite`.
            count = np.count_nonzero((numbers.view(np.uint16) & 0x7C00) == 0x7C00)
        else:
            count = len(numbers) - np.count_nonzero(np.isfinite(numbers))
        if count:
            raise NotFinite(f"column {name!r}", count, len(numbers))


def read_json(text):
    """Return the value of JSON text.

    Raises
    ------
    NotFinite
        For the constants ``NaN`` and ``Infinity``, which Python writes and JSON lacks.
    ValueError
        For other text.
    """

    def refuse(constant):
        raise NotFinite(constant, 1, 1)

    return json.loads(text, parse_constant=refuse)
