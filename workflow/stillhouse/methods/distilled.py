"""Distilled sets: what every method ends in. One Parquet file, a row group a class."""

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import store
from stillhouse.artifacts.store import RowGroups
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode, encode
from stillhouse.data.crops import whole_image
from stillhouse.data.distilled_set import set_metadata, set_schema
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.selection import WHOLE, choose, read_features
from stillhouse.methods.ddps import images as ddps
from stillhouse.methods.rded import images as rded
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.rng import generator, permutation


def random_class(inputs, spec, class_id, context):
    """Return whole real images drawn at random: the baseline every method has to beat.

    The centred square of each, brought to the dataset's resolution. A smaller IPC is a prefix.
    """
    ipc, seed = spec["keys"]["ipc"], spec["keys"]["seed"]
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    order = permutation(generator(seed, "random", class_id), len(rows))[:ipc]
    return [whole_image(*rows[i], spec["settings"]["resolution"]) for i in order]


def coreset_class(inputs, spec, class_id, context):
    """Return whole real images chosen by herding or k-means in a teacher's or in pixel space."""
    settings, count = spec["settings"], spec["keys"]["ipc"]
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    if "features" in inputs:
        found = read_features(inputs["features"][class_id])
        points = np.stack([found[name, WHOLE] for name in rows.image_ids])
    else:
        seen = [whole_image(*row, settings["resolution"])[0] for row in rows]
        points = np.stack(seen).reshape(len(rows), -1) / 255
    rng = generator(spec["keys"]["seed"], settings["kind"], class_id)
    chosen = choose(settings["kind"], points, min(count, len(rows)), rng)
    return [whole_image(*rows[i], settings["resolution"]) for i in chosen]


def decoded_class(inputs, spec, class_id, context):
    """Return the images that a denoiser has made, brought to the dataset's resolution."""
    table = store.read_table(inputs["decoded"][class_id], columns=["image"])
    resolution = spec["settings"]["resolution"]
    made = (image["bytes"] for image in table["image"].to_pylist())
    return [
        (whole_image(f"{class_id} {i}", data, resolution)[0], []) for i, data in enumerate(made)
    ]


def synthesised_class(inputs, spec, class_id, context):
    """Return the images of a class that were synthesised, from the batches that have some."""
    made = spec["upstream"]["synthesis"]
    label, found = made["settings"]["classes"].index(class_id), {}
    for number, slots in enumerate(batches(made["settings"], made["keys"])):
        places = {place: index for place, (own, index) in enumerate(slots) if own == label}
        if places:
            stored = store.open_row_groups(inputs["synthesis"][number])
            for place, index in places.items():
                (image,) = stored.read_row_group(place, columns=["image"])["image"].to_pylist()
                found[index] = decode(image["bytes"], class_id)
    return [(found[index], []) for index in sorted(found)]


# Method kind → function(inputs by class, spec, class id) → [(pixels, origin)], one an image:
# pixels (3, resolution, resolution) uint8; origin the boxes in source images, empty if synthetic.
METHODS = {
    "random": random_class,
    "herding": coreset_class,
    "kmeans": coreset_class,
    "rded": rded.distil_class,
    "ddps": ddps.ddps_class,
    "d3hr": decoded_class,
    "d4m": decoded_class,
    **dict.fromkeys(("sre2l", "gvbsm", "edc"), synthesised_class),
}


def distilled(inputs, spec, context):
    """Stage: put the images of all classes of one method into one set."""
    settings = spec["settings"]
    schema = set_schema(set_metadata(spec))

    def class_table(label, class_id):
        images = METHODS[settings["kind"]](inputs, spec, class_id, context)
        if len(images) < spec["keys"]["ipc"]:
            raise StillhouseError(
                f"{spec['address']}: class {class_id!r} gives {len(images)} images only; lower the "
                "IPC, or have the method look at more images"
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
