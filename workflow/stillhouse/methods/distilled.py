"""Distilled sets: what every method ends in. One Parquet file, a row group a class."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from stillhouse.artifacts.store import RowGroups
from stillhouse.data.class_images import IMAGE, decode, encode
from stillhouse.errors import StillhouseError
from stillhouse.methods.common import decoded_images
from stillhouse.methods.coresets import images as coresets
from stillhouse.methods.ddps import images as ddps
from stillhouse.methods.rded import images as rded
from stillhouse.methods.statistical_matching import images as statistical_matching

ORIGIN = pa.list_(
    pa.struct(
        [
            ("image_id", pa.string()),
            ("top", pa.int32()),
            ("left", pa.int32()),
            ("height", pa.int32()),
            ("width", pa.int32()),
        ]
    )
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
    """Stage: put the images of all classes of one method into one set."""
    settings = spec["settings"]
    schema = SCHEMA.with_metadata(metadata(spec))

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

    def make(key, context):
        tables = (class_table(*pair) for pair in enumerate(settings["classes"]))
        return {"images.parquet": RowGroups(schema, tables)}

    return make


def metadata(spec):
    """Return the file metadata of a distilled set, Hugging Face's column types among them."""
    path = Path(spec["address"])
    value = lambda kind: {"dtype": kind, "_type": "Value"}  # noqa: E731
    box = {"image_id": value("string")} | {
        name: value("int32") for name in ("top", "left", "height", "width")
    }
    names = spec["settings"]["classes"]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
        "class_id": value("string"),
        "index": value("int32"),
        "origin": [box],
    }
    return {
        "dataset": path.parts[-3],
        "class_names": json.dumps(names),
        "method": path.parts[-2].rsplit("-", 1)[0],
        "ipc": str(spec["keys"]["ipc"]),
        "seed": str(spec["keys"]["seed"]),
        "spec": json.dumps(spec, sort_keys=True),
        "huggingface": json.dumps({"info": {"features": features}}),
    }


def read_set(table):
    """Return (images, labels) of a distilled set's table.

    images : (n, 3, side, side) uint8 array; labels : (n,) int64 array; row order is kept.
    """
    pixels = [decode(row["bytes"], row["path"]) for row in table["image"].to_pylist()]
    return np.stack(pixels), table["label"].to_numpy()
