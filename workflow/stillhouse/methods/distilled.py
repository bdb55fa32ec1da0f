"""Distilled sets, the result of every method: one Parquet file, one row group per class."""

import pyarrow as pa

from stillhouse.artifacts.formats import RowGroups
from stillhouse.artifacts.stages import load_function
from stillhouse.data.codecs import encode
from stillhouse.data.distilled_set import set_metadata, set_schema
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry


def distilled(inputs, spec, context):
    """Stage: collect the images of all classes of one method in one set."""
    settings = spec["settings"]
    schema = set_schema(set_metadata(spec))
    images_of_class = load_function(registry.method(settings["kind"]).images)

    def class_table(label, class_id):
        images = images_of_class(inputs, spec, class_id, context)
        if len(images) < spec["keys"]["ipc"]:
            raise StillhouseError(
                f"{spec['address']}: class {class_id!r} has only {len(images)} images; lower the "
                "IPC, or let the method select from more images"
            )
        encoding = settings.get("encoding", "png")
        return pa.table(
            {
                "image": [
                    {"bytes": encode(pixels, encoding), "path": f"{label:04d}-{i:04d}.{encoding}"}
                    for i, (pixels, _) in enumerate(images)
                ],
                "label": [label] * len(images),
                "class_id": [class_id] * len(images),
                "index": list(range(len(images))),
                "origin": [origin for _, origin in images],
            },
            schema=schema,
        )

    def make(member, context):
        tables = (class_table(*pair) for pair in enumerate(settings["classes"]))
        return {"images.parquet": RowGroups(schema, tables)}

    return make
