"""Crop boxes as numbers: random resized crops for many images at once.

A box is (top, left, height, width) in pixels, int64. Every box consumes `N_DRAWS` uniform draws, so
that box i of a table depends on row i of the draws alone, for any number of boxes.
"""

import numpy as np

# Columns of a box in tables, in the order of its numbers.
BOX_COLUMNS = ("top", "left", "height", "width")
TRIES = 10
N_DRAWS = 2 * TRIES + 2


def augmentation_boxes(draws, size, settings):
    """Return the boxes of `padded_boxes` for settings with ``pad``, else of `random_boxes`.

    Parameters
    ----------
    draws : (n, N_DRAWS) float64 in [0, 1)
    size : int
        Side of the square images [px].
    settings : dict
        ``pad`` [px], optional; for none or 0, ``crop``, smallest and largest area.
    """
    if settings.get("pad"):
        return padded_boxes(draws, size, settings["pad"])
    return random_boxes(draws, size, size, settings["crop"])


def random_boxes(draws, height, width, area, ratio=(3 / 4, 4 / 3)):
    """Return boxes distributed as those of torchvision's RandomResizedCrop, one per row of `draws`.

    Parameters
    ----------
    draws : (n, N_DRAWS) float64 in [0, 1)
        Area and aspect ratio of ten tries, then the position.
    height, width : int
        Size of the images [px].
    area : (float, float)
        Smallest and largest area, as a fraction of the image.
    ratio : (float, float)
        Smallest and largest width / height.

    Returns
    -------
    (n, 4) int64

    Notes
    -----
    As in torchvision: the first of ten tries that fits; if none fits, the largest centred box
    whose aspect ratio is within bounds.
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


def padded_boxes(draws, size, pad):
    """Return random boxes of an image's size in its padded image, one per row of `draws`.

    As torchvision's RandomCrop with padding. A box that extends beyond the image has the colour
    of the border there, black, when it is cut.

    Parameters
    ----------
    draws : (n, 2 or more) float64 in [0, 1)
        The last two are the position.
    size : int
        Side of the square images [px].
    pad : int
        Width of the border [px].

    Returns
    -------
    (n, 4) int64
        Top and left between -pad and pad.
    """
    corners = np.floor(draws[:, -2:] * (2 * pad + 1)).astype(np.int64) - pad
    return np.concatenate([corners, np.full((len(draws), 2), size)], 1)


def centre_box(height, width, share=1.0):
    """Return the largest centred square, its side scaled by `share`, (4,) int64."""
    side = max(round(min(height, width) * share), 1)
    return np.array([(height - side) // 2, (width - side) // 2, side, side], np.int64)


def region_of(shape, height, width):
    """Return the box of an image of height × width px that its latent encodes, (4,) int64.

    ``aspect``: the complete image; ``square``: the largest centred square.
    """
    if shape == "aspect":
        return np.array([0, 0, height, width], np.int64)
    return centre_box(height, width)


def test_crop_box(height, width, resolution):
    """Return the centred square on which a network of `resolution` px is tested, (4,) int64.

    RDED's code resizes the short side to resolution // 7 × 8 px and cuts resolution px from the
    middle: 224 of 256 px, 57 of 64 px, 32 of 32 px.
    """
    resized = resolution // 7 * 8 or resolution
    return centre_box(height, width, min(resolution / resized, 1.0))
