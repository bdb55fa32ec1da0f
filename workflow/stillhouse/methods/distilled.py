"""Distilled sets, the result of every method: one Parquet file, one row group per class."""

import math

import pyarrow as pa

from stillhouse.artifacts.formats import RowGroups
from stillhouse.artifacts.stages import load_function
from stillhouse.data.codecs import encode, format_of, image_format
from stillhouse.data.distilled_set import LABEL_KINDS, set_metadata, set_schema
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry


def distilled(inputs, spec, context):
    """Stage: collect the images of all classes of one method, with labels and rate it learned."""
    settings, ipc = spec["settings"], spec["keys"]["ipc"]
    method = registry.method(settings["kind"])
    learned = learned_parts(method, inputs, spec, context) if method.learned else None
    schema = set_schema(set_metadata(spec), learned)
    images_of_class = load_function(method.images)
    encoding = settings.get("encoding", "png")

    def class_table(label, class_id):
        images = images_of_class(inputs, spec, class_id, context)
        if len(images) < ipc:
            raise StillhouseError(
                f"{spec['address']}: class {class_id!r} has only {len(images)} images; lower the "
                "IPC, or raise the images per class of the method"
            )
        columns = {
            "image": [
                _image(pixels, encoding, f"{label:04d}-{i:04d}")
                for i, (pixels, _) in enumerate(images)
            ],
            "label": [label] * len(images),
            "class_id": [class_id] * len(images),
            "index": list(range(len(images))),
            "origin": [origin for _, origin in images],
        }
        if "learned_label" in schema.names:
            columns["learned_label"] = list(learned.labels[label * ipc : (label + 1) * ipc])
        return pa.table(columns, schema=schema)

    def make(member, context):
        tables = (class_table(*pair) for pair in enumerate(settings["classes"]))
        return {"images.parquet": RowGroups(schema, tables)}

    return make


def _image(pixels, encoding, name):
    """Return the columns of an image; the bytes of an encoded one are stored unchanged."""
    if isinstance(pixels, bytes):
        return {"bytes": pixels, "path": f"{name}.{format_of(pixels)}"}
    return {"bytes": encode(pixels, encoding), "path": f"{name}.{image_format(encoding)[0]}"}


def learned_parts(method, inputs, spec, context):
    """Return the `stillhouse.data.distilled_set.LearnedParts` of a method's set, checked.

    Raises
    ------
    StillhouseError
        If the labels are not (n_classes × IPC, n_classes) float32 of a known kind, or the learning
        rate is not a positive number.
    """
    learned = load_function(method.learned)(inputs, spec, context)
    n_classes, where = len(spec["settings"]["classes"]), f"{spec['address']}: {method.learned}"
    shape, labels = (n_classes * spec["keys"]["ipc"], n_classes), learned.labels
    if labels is not None and (labels.shape, labels.dtype.name) != (shape, "float32"):
        raise StillhouseError(
            f"{where}: labels must be float32 of shape {shape}, not {labels.dtype} of shape "
            f"{labels.shape}; return a label per row of the set"
        )
    if labels is not None and learned.label_kind not in LABEL_KINDS:
        raise StillhouseError(
            f"{where}: label_kind must be {' or '.join(LABEL_KINDS)}, not {learned.label_kind!r}"
        )
    rate = learned.learning_rate
    if rate is not None and not 0 < rate < math.inf:
        raise StillhouseError(
            f"{where}: learning_rate must be more than 0 and finite, not {rate}; learn it at a "
            "lower rate"
        )
    return learned
