"""Real images, drawn at random or selected as a coreset."""

import numpy as np

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.class_images import read_class
from stillhouse.data.crops import whole_image
from stillhouse.methods.common.features import WHOLE, read_features
from stillhouse.methods.common.selection import select


def random_images(inputs, spec, class_id, context):
    """Return random real images of one class, [(pixels, origin)]: the baseline of all methods.

    Each is a centred square, resized to the dataset's resolution. A smaller set is a prefix.
    """
    ipc, seed = spec["keys"]["ipc"], spec["keys"]["seed"]
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    order = permutation(generator(seed, "random", class_id), len(rows))[:ipc]
    return [whole_image(*rows[i], spec["settings"]["resolution"]) for i in order]


def coreset_images(inputs, spec, class_id, context):
    """Return real images of one class selected by herding or k-means, [(pixels, origin)].

    In the feature space of a teacher if ``features`` are among the inputs, else of pixels.
    """
    settings, count = spec["settings"], spec["keys"]["ipc"]
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    if "features" in inputs:
        features = read_features(inputs["features"][class_id])
        points = np.stack([features[name, WHOLE] for name in rows.image_ids])
    else:
        pixels = [whole_image(*row, settings["resolution"])[0] for row in rows]
        points = np.stack(pixels).reshape(len(rows), -1) / 255
    rng = generator(spec["keys"]["seed"], settings["kind"], class_id)
    selected = select(settings["kind"], points, min(count, len(rows)), rng)
    return [whole_image(*rows[i], settings["resolution"]) for i in selected]
