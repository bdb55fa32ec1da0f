"""Distilled sets, the result of every method: one Parquet file, one row group per class."""

import pyarrow as pa

from stillhouse.artifacts.store import RowGroups
from stillhouse.data.codecs import encode
from stillhouse.data.distilled_set import set_metadata, set_schema
from stillhouse.errors import StillhouseError
from stillhouse.methods.common import decoded_images
from stillhouse.methods.coresets import images as coresets
from stillhouse.methods.ddps import images as ddps
from stillhouse.methods.rded import images as rded
from stillhouse.methods.statistical_matching import images as statistical_matching

# Method kind → function(inputs, spec, class_id, context) → [(pixels, origin)], one per image:
# pixels (3, resolution, resolution) uint8; origin the boxes in source images, empty if synthetic.
METHODS = {
    "random": coresets.random_images,
    "herding": coresets.coreset_images,
    "kmeans": coresets.coreset_images,
    "rded": rded.images_of_class,
    "ddps": ddps.images_of_class,
    "d3hr": decoded_images.images_of_class,
    "d4m": decoded_images.images_of_class,
    **dict.fromkeys(("sre2l", "gvbsm", "edc"), statistical_matching.images_of_class),
}


def distilled(inputs, spec, context):
    """Stage: collect the images of all classes of one method in one set."""
    settings = spec["settings"]
    schema = set_schema(set_metadata(spec))

    def class_table(label, class_id):
        images = METHODS[settings["kind"]](inputs, spec, class_id, context)
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
