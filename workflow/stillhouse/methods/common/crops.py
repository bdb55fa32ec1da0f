"""Crops: cut from images of any sizes, whole images as squares, floats to bytes."""

import numpy as np
import torch

from stillhouse.data.boxes import centre_box
from stillhouse.data.class_images import decode
from stillhouse.data.transforms import cut


def cut_many(pixels, boxes, side, device):
    """Cut boxes from images of any sizes.

    Parameters
    ----------
    pixels : list of (3, height, width) uint8 arrays
    boxes : list of (k, 4) int64 arrays
        One an image.
    side : int
        Side of a crop [px].

    Returns
    -------
    (sum of k, 3, side, side) float32, in [0, 255]; an image's crops stay together.
    """
    if len({image.shape for image in pixels}) == 1:
        stack = torch.from_numpy(np.stack(pixels)).to(device)
        repeats = torch.tensor([len(some) for some in boxes], device=device)
        stack = stack.repeat_interleave(repeats, dim=0)
        return cut(stack, torch.from_numpy(np.concatenate(boxes)).to(device), side)
    parts = []
    for image, some in zip(pixels, boxes, strict=True):
        one = torch.tensor(image, device=device).expand(len(some), *image.shape)
        parts.append(cut(one, torch.from_numpy(some).to(device), side))
    return torch.cat(parts)


def boxes_of(rows):
    """Return the boxes of rows of a score table as `cut_many` takes them."""
    return [np.array([[row[k] for k in ("top", "left", "height", "width")]]) for row in rows]


def to_bytes(pixels, rounding):
    """Turn [0, 255] floats into uint8: ``truncate`` as the official code, or to the ``nearest``."""
    if rounding == "nearest":
        pixels = pixels.round()
    # Interpolation leaves 254.99999 where 255 was meant: a hair before truncation.
    return (pixels + 1e-3 * (rounding == "truncate")).clamp(0, 255).to(torch.uint8).numpy()


def whole_image(image_id, data, resolution):
    """Return (pixels, origin) of a real image's centred square at a resolution."""
    image = decode(data, image_id)
    box = centre_box(*image.shape[1:])
    pixels = cut_many([image], [box[None]], resolution, torch.device("cpu"))[0]
    top, left, height, width = box.tolist()
    origin = {"image_id": image_id, "top": top, "left": left, "height": height, "width": width}
    return to_bytes(pixels, "nearest"), [origin]
