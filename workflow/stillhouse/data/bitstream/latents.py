"""Entropy coding of latents in wavefronts of independent latents.

A latent's distribution follows from its context, latents above and to the left of it in the same
grid. All latents with the same column + s × row, of all grids and images, are independent
(`layout.wavefront_slope`), and are coded in one step: by grid, row, image.
"""

import functools

import numpy as np

from stillhouse.data.bitstream import tables
from stillhouse.data.bitstream.layout import WINDOW, context_offsets, wavefront_slope
from stillhouse.data.bitstream.networks import MOST_LATENT
from stillhouse.data.bitstream.range_coder import decode_values, encode_values

BORDER = WINDOW // 2


@functools.cache
def _schedule(sides, context):
    """Return (steps, places, n): places of latents and contexts in a flat, padded image.

    steps : list of (latents (m,), contexts (m, C)) index arrays, one per wavefront
    places : index arrays (side, side), one per grid
    n : length of the flat image
    """
    offsets, slope = context_offsets(context), wavefront_slope(context)
    steps, places, start = {}, [], 0
    for side in sides:
        stride = side + 2 * BORDER
        rows, columns = np.divmod(np.arange(side * side), side)
        place = start + (rows + BORDER) * stride + columns + BORDER
        contexts = place[:, None] + [row * stride + column for row, column in offsets]
        fronts = columns + slope * rows
        for front in range(int(fronts[-1]) + 1):
            chosen = np.flatnonzero(fronts == front)
            steps.setdefault(front, []).append((place[chosen], contexts[chosen]))
        places.append(place.reshape(side, side))
        start += (side + BORDER) * stride
    fronts = (zip(*steps[front], strict=True) for front in sorted(steps))
    return [tuple(map(np.concatenate, parts)) for parts in fronts], places, start


def _distributions(networks, flat, contexts):
    """Return (nearest integers to the means, rows of values, rows of excesses) of one step."""
    values = flat[contexts].transpose(0, 2, 1).reshape(-1, contexts.shape[1])
    mean, scale = networks.distributions(values.astype(np.float64))
    half = tables.MEAN_STEPS // 2
    nearest = (mean + half) // tables.MEAN_STEPS
    rows = tables.laplace_row(scale, mean - nearest * tables.MEAN_STEPS)
    return nearest, rows, tables.geometric_row(scale)


def encode(encoder, networks, grids):
    """Encode latents.

    Parameters
    ----------
    encoder : stillhouse.data.bitstream.range_coder.Encoder
    networks : stillhouse.data.bitstream.networks.Networks
    grids : list of (n, side, side) integer arrays
        Finest first.
    """
    steps, places, length = _schedule(tuple(networks.layout.sides), networks.layout.context)
    flat = np.zeros((length, len(grids[0])), np.int32)
    for place, grid in zip(places, grids, strict=True):
        flat[place] = grid.transpose(1, 2, 0)
    for own, contexts in steps:
        nearest, rows, excess_rows = _distributions(networks, flat, contexts)
        residuals = flat[own].reshape(-1).astype(np.int64) - nearest
        encode_values(encoder, rows, excess_rows, residuals, tables.FIRST, tables.LAST)


def decode(decoder, networks, n_images):
    """Return the latents of images, a list of (n, side, side) int32 arrays, finest first.

    Raises
    ------
    StillhouseError
        If `encode` writes no such data.
    """
    steps, places, length = _schedule(tuple(networks.layout.sides), networks.layout.context)
    flat = np.zeros((length, n_images), np.int32)
    for own, contexts in steps:
        nearest, rows, excess_rows = _distributions(networks, flat, contexts)
        most = 2 * MOST_LATENT
        residuals = decode_values(decoder, rows, excess_rows, tables.FIRST, tables.LAST, most)
        values = np.clip(nearest + residuals, -MOST_LATENT, MOST_LATENT)
        flat[own] = values.reshape(len(own), n_images)
    return [np.ascontiguousarray(flat[place].transpose(2, 0, 1)) for place in places]
