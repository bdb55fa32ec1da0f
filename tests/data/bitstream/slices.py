"""A slice with random latents and networks, for tests of its file."""

import numpy as np
from stillhouse.artifacts.rng import generator
from stillhouse.data.bitstream import files
from stillhouse.data.bitstream.layout import Layout
from stillhouse.data.bitstream.networks import Networks

STEPS = {
    "entropy_weights": 6,
    "entropy_biases": 8,
    "upsampling_weights": 10,
    "decoder_weights": 10,
    "decoder_biases": 12,
}
# Standard deviation of each stream's parameters.
SPREAD = {
    "entropy_weights": 0.1,
    "entropy_biases": 0.5,
    "upsampling_weights": 0.2,
    "decoder_weights": 0.1,
    "decoder_biases": 0.1,
}


def contents(resolution=8, widths=(16, 0), context=8, depth=2, shape=(2, 3), scale=2.0, seed=0):
    """Return the contents of a slice of `shape` = (classes, images per class)."""
    rng = generator(seed, "test slice")
    layout = Layout(resolution, widths, context, depth)
    values = {
        name: np.rint(rng.standard_normal(count) * SPREAD[name] * 2 ** STEPS[name]).astype(np.int64)
        for name, count in layout.counts.items()
    }
    n = shape[0] * shape[1]
    grids = [
        np.rint(rng.laplace(scale=scale, size=(n, side, side))).astype(np.int32)
        for side in layout.sides
    ]
    return files.Contents(Networks(layout, STEPS, values), grids, 4, *shape)
