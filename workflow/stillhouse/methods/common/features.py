"""Features: penultimate activations of a teacher for images or patches, and their table.

The features of DDPS, of a denoiser or of CLIP, are in `stillhouse.methods.ddps.patch_features`.
"""

import numpy as np
import pyarrow as pa

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.data.boxes import centre_box
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.crops import boxes_of, cut_many
from stillhouse.methods.common.patches import SCORES_SCHEMA, rank_patches, scoring_view
from stillhouse.networks.features import penultimate
from stillhouse.training.teachers import load_teacher

# Crop number of a row for a complete image.
WHOLE = -1


def features(inputs, spec, context):
    """Stage: a teacher's features of the training images of each class, or of their best crops.

    With ``scores`` among the inputs: of RDED's candidate crops, as they were scored; otherwise of
    the largest centred square of each image.
    """
    return TeacherFeatures(inputs, spec, context)


class TeacherFeatures:
    """Features of a teacher, computed class by class."""

    def __init__(self, inputs, spec, context):
        self.inputs, self.settings = inputs, spec["settings"]
        self.device = context.torch_device()
        teacher = load_teacher(inputs["teacher"], self.device)
        self.net, self.resolution = teacher.net, teacher.resolution

    def __call__(self, class_id, context):
        """Return the file of features of one class."""
        images = read_class(self.inputs["images"][class_id], "train", context.source_roots)
        rows, step = self.rows_of(class_id, images.image_ids), context.batch_size
        parts, starts = [], range(0, len(rows), step)
        for first in track(starts, len(starts), f"{class_id}: batches of features"):
            parts.append(self.describe(rows[first : first + step], images))
        image_ids, crops, _ = zip(*rows, strict=True)
        return {"features.parquet": features_table(image_ids, crops, np.concatenate(parts))}

    def rows_of(self, class_id, image_ids):
        """Return (image id, crop number, box or None) of all images or patches of a class."""
        if "scores" not in self.inputs:
            return [(image_id, WHOLE, None) for image_id in image_ids]
        table = store.read_table(self.inputs["scores"][class_id], schema=SCORES_SCHEMA)
        ranked = rank_patches(table.to_pylist(), self.settings["patches_per_image"])
        return [(row["image_id"], row["crop"], boxes_of([row])[0]) for row in ranked]

    def describe(self, rows, images):
        """Return the features of a batch of rows, (n, d) float32 array."""
        pixels = [decode(images.read(image_id), image_id) for image_id, _, _ in rows]
        boxes = [
            np.array([centre_box(*image.shape[1:])]) if box is None else box
            for image, (_, _, box) in zip(pixels, rows, strict=True)
        ]
        side = self.resolution // self.settings.get("patches_per_side", 1)
        crops = cut_many(pixels, boxes, side, self.device)
        view = scoring_view(crops, self.resolution, self.settings.get("scoring"))
        return penultimate(self.net, view).cpu().numpy()


def features_schema(width):
    """Return the schema of a class's features; ``crop`` is -1 for a complete image."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("crop", pa.int32()),
            ("features", pa.list_(pa.float32(), width)),
        ]
    )


def features_table(image_ids, crops, matrix):
    """Return the table of the features of images or patches.

    Parameters
    ----------
    image_ids : sequence of str
    crops : sequence of int
        Numbers of crops, or `WHOLE`.
    matrix : (n, d) float array
    """
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
    columns = {
        "image_id": list(image_ids),
        "crop": list(crops),
        "features": pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1]),
    }
    return pa.table(columns, schema=features_schema(matrix.shape[1]))


def read_features(path):
    """Return the features of a class by (image id, crop), each (d,) float32."""
    table = store.read_table(path)
    column = table["features"].combine_chunks()
    matrix = column.flatten().to_numpy().reshape(len(column), -1)
    keys = zip(table["image_id"].to_pylist(), table["crop"].to_pylist(), strict=True)
    return dict(zip(keys, matrix, strict=True))
