"""Crop boxes as numbers: random resized crops for many images at once.

A box is (top, left, height, width) in pixels, int64. Every box uses up a fixed number of uniform
draws (`N_DRAWS`), so that box i of a table depends on draw i alone, however many boxes there are.
"""

import numpy as np

TRIES = 10
N_DRAWS = 2 * TRIES + 2


def random_boxes(draws, height, width, area, ratio=(3 / 4, 4 / 3)):
    """Return the boxes that torchvision's RandomResizedCrop would draw, one a row of `draws`.

    Parameters
    ----------
    draws : (n, N_DRAWS) float64 in [0, 1)
        Ten tries of area and aspect ratio, then the position.
    height, width : int
        Size of the images [px].
    area : (float, float)
        Smallest and largest area, as share of the image.
    ratio : (float, float)
        Smallest and largest width / height.

    Returns
    -------
    (n, 4) int64

    Notes
    -----
    As in torchvision: the first of ten tries that fits is taken; else the largest box in the
    middle that keeps the aspect ratio within bounds.
    """
    n = len(draws)
    tries = draws[:, : 2 * TRIES].reshape(n, TRIES, 2)
    areas = height * width * (area[0] + (area[1] - area[0]) * tries[:, :, 0])
    low, high = np.log(ratio[0]), np.log(ratio[1])
    aspects = np.exp(low + (high - low) * tries[:, :, 1])
    widths = np.rint(np.sqrt(areas * aspects)).astype(np.int64)
    heights = np.rint(np.sqrt(areas / aspects)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.argmax(axis=1)
    rows = np.arange(n)
    boxes = np.empty((n, 4), np.int64)
    boxes[:, 2] = heights[rows, first]
    boxes[:, 3] = widths[rows, first]
    room = np.array([height, width]) - boxes[:, 2:]
    boxes[:, :2] = np.floor(draws[:, -2:] * (room + 1))
    boxes[~fits.any(axis=1)] = _middle(height, width, ratio)
    return boxes


def _middle(height, width, ratio):
    if width / height < ratio[0]:
        size = round(width / ratio[0]), width
    elif width / height > ratio[1]:
        size = height, round(height * ratio[1])
    else:
        size = height, width
    return (height - size[0]) // 2, (width - size[1]) // 2, *size


def centre_box(height, width, share=1.0):
    """Return the largest centred square box, its side scaled by `share`, as (4,) int64."""
    side = max(round(min(height, width) * share), 1)
    return np.array([(height - side) // 2, (width - side) // 2, side, side], np.int64)


def region_of(shape, height, width):
    """Return the box of an image of height × width px that its latent shows, (4,) int64.

    ``aspect``: all of it; ``square``: the largest centred square.
    """
    whole = np.array([0, 0, height, width], np.int64)
    return whole if shape == "aspect" else centre_box(height, width)
