"""Features: what a teacher's last layer is given, of whole images or of RDED's patches.

Those of DDPS, which are a denoiser's or CLIP's, are in `methods.ddps.patch_features`.
"""

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.data.boxes import centre_box
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.crops import boxes_of, cut_many
from stillhouse.methods.common.selection import WHOLE
from stillhouse.methods.ddps import patch_features
from stillhouse.methods.rded.images import SCORES_SCHEMA, rank_patches, scoring_view
from stillhouse.networks.features import penultimate
from stillhouse.training.teachers import load_teacher


def features_schema(width):
    """Return the schema of a class's features; `crop` is -1 for a whole image."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("crop", pa.int32()),
            ("features", pa.list_(pa.float32(), width)),
        ]
    )


def features(inputs, spec, context):
    """Stage: features of the training images of each class, or of their best crops.

    With ``scores`` among the inputs: of the crops that RDED would choose among, seen as they were
    scored; otherwise of the largest centred square of each image. Where the settings name
    ``features``, they are DDPS's.
    """
    if "features" in spec["settings"]:
        return patch_features.describe(inputs, spec, context)
    settings, device = spec["settings"], context.torch_device()
    path = inputs["teacher"]
    net, _, resolution = load_teacher(path, device)
    image_files = inputs["images"]
    score_files = inputs.get("scores", {})

    def rows_of(class_id, names):
        """Return (image id, crop number, box or None) of all that is to be described."""
        if not score_files:
            return [(name, WHOLE, None) for name in names]
        table = store.read_table(score_files[class_id], schema=SCORES_SCHEMA)
        ranked = rank_patches(table.to_pylist(), settings["patches_per_image"])
        return [(r["image_id"], r["crop"], boxes_of([r])[0]) for r in ranked]

    def make(class_id, context):
        images = read_class(image_files[class_id], "train", context.source_roots)
        rows, step = rows_of(class_id, images.image_ids), context.batch_size
        side = resolution // settings.get("patches_per_side", 1)
        parts, starts = [], range(0, len(rows), step)
        for first in track(starts, len(starts), f"{class_id}: batches of features"):
            some = rows[first : first + step]
            pixels = [decode(images.read(name), name) for name, _, _ in some]
            boxes = [
                np.array([centre_box(*image.shape[1:])]) if box is None else box
                for image, (_, _, box) in zip(pixels, some, strict=True)
            ]
            crops = cut_many(pixels, boxes, side, device)
            inputs = scoring_view(crops, resolution, settings.get("scoring", "pad"))
            parts.append(penultimate(net, inputs).cpu().numpy())
        return {"features.parquet": _table(rows, np.concatenate(parts))}

    return make


def _table(rows, matrix):
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
    columns = {
        "image_id": [name for name, _, _ in rows],
        "crop": [crop for _, crop, _ in rows],
        "features": pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1]),
    }
    return pa.table(columns, schema=features_schema(matrix.shape[1]))
