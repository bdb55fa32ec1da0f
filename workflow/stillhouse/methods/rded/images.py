"""RDED: the patches with the highest scores of a teacher, stitched into images.

Sun et al., "On the Diversity and Realism of Distilled Dataset" (CVPR 2024), Algorithm 1 and
supplement section C.2; official code LINs-lab/RDED at 3f6453d, synthesize/.
"""

import numpy as np

from stillhouse.artifacts import store
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.class_images import read_class
from stillhouse.methods.common.features import read_features
from stillhouse.methods.common.patches import (
    SCORES_SCHEMA,
    assign,
    rank_patches,
    stitched_images,
)
from stillhouse.methods.common.selection import select


def images_of_class(inputs, spec, class_id, context):
    """Return the images of one class, [(pixels, origin)]: (3, side, side) uint8, boxes.

    Settings: ``resolution``, ``patches_per_side``, ``patches_per_image``, ``selection``,
    ``assignment``, ``rounding`` and, for sets nested in a larger one, ``nested_in``.
    """
    settings, wanted, seed = spec["settings"], spec["keys"]["ipc"], spec["keys"]["seed"]
    n_patches = settings["patches_per_side"] ** 2
    ipc = settings.get("nested_in", wanted)
    scores = store.read_table(inputs["scores"][class_id], schema=SCORES_SCHEMA).to_pylist()
    ranked = rank_patches(scores, settings["patches_per_image"])
    ranked = select_patches(ranked, ipc * n_patches, settings, inputs, seed, class_id)
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    rng = generator(seed, "assignment", class_id)
    places = assign(len(ranked) // n_patches, n_patches, settings["assignment"], rng)[:wanted]
    return stitched_images(ranked, rows, places, settings["resolution"], settings["rounding"])


def select_patches(ranked, count, settings, inputs, seed, class_id):
    """Return `count` of the ranked patches by the strategy of ``selection`` (RDED, Table 9).

    ``realism``: the best; ``random``: at random; ``herding``, ``kmeans``: by teacher features.
    """
    strategy = settings.get("selection", "realism")
    if strategy == "realism":
        return ranked[:count]
    rng = generator(seed, "selection", class_id)
    if strategy == "random":
        return [ranked[i] for i in permutation(rng, len(ranked))[:count]]
    features = read_features(inputs["features"][class_id])
    points = np.stack([features[row["image_id"], row["crop"]] for row in ranked])
    return [ranked[i] for i in select(strategy, points, min(count, len(ranked)), rng)]
