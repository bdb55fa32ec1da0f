"""Crops of decoded images of any sizes."""

import numpy as np
import torch

from stillhouse.data.boxes import BOX_COLUMNS, centre_box
from stillhouse.data.codecs import decode
from stillhouse.data.transforms import cut, pixels_to_bytes


def cut_many(pixels, boxes, side, device):
    """Crop boxes from images of any sizes and resize them to side × side pixels.

    Parameters
    ----------
    pixels : list of (3, height, width) uint8 arrays
    boxes : list of (k, 4) int64 arrays
        One per image.
    side : int
        Side of a crop [px].
    device : torch.device

    Returns
    -------
    (sum of k, 3, side, side) float32, in [0, 255]; the crops of an image are consecutive.
    """
    if len({image.shape for image in pixels}) == 1:
        stack = torch.from_numpy(np.stack(pixels)).to(device)
        repeats = torch.tensor([len(image_boxes) for image_boxes in boxes], device=device)
        stack = stack.repeat_interleave(repeats, dim=0)
        return cut(stack, torch.from_numpy(np.concatenate(boxes)).to(device), side)
    crops = []
    for image, image_boxes in zip(pixels, boxes, strict=True):
        repeated = torch.tensor(image, device=device).expand(len(image_boxes), *image.shape)
        crops.append(cut(repeated, torch.from_numpy(image_boxes).to(device), side))
    return torch.cat(crops)


def boxes_of(rows):
    """Return the boxes of rows of a score table, one (1, 4) array per row, for `cut_many`."""
    return [np.array([[row[column] for column in BOX_COLUMNS]]) for row in rows]


def whole_image(image_id, data, resolution):
    """Return (pixels, origin) of the centred square of an encoded image.

    pixels : (3, resolution, resolution) uint8 array; origin : list of one dict with the image id
    and the box, as in `stillhouse.data.distilled_set.ORIGIN`.
    """
    pixels, box = centre_square(decode(data, image_id), resolution)
    origin = {"image_id": image_id, **dict(zip(BOX_COLUMNS, box.tolist(), strict=True))}
    return pixels, [origin]


def centre_square(image, resolution):
    """Return (pixels, box) of the centred square of an image, resized.

    image : (3, height, width) uint8 array; pixels : (3, resolution, resolution) uint8 array; box :
    (4,) int64 array, in pixels of the image.
    """
    box = centre_box(*image.shape[1:])
    pixels = cut_many([image], [box[None]], resolution, torch.device("cpu"))[0]
    return pixels_to_bytes(pixels, "nearest"), box
