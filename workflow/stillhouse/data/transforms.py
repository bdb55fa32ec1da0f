"""Image operations on batches, on the device: crop, flip, resize, patch shuffle, value ranges.

Cropping and resizing are two matrix products per image, equal to torchvision's antialiased bilinear
`resized_crop` up to rounding; flips and patch permutations reorder the matrices at no cost.
torchvision has no crop of a batch with one box per image.

Images have one of three value ranges: pixels in [0, 255], "unit" in [-1, 1] (diffusers'
autoencoders), "normalised" by ImageNet's mean and standard deviation (classifiers).
"""

import torch

from stillhouse.data.normalisation import PUBLISHED

MEAN, STD = PUBLISHED["imagenet"]


def resampling(start, length, extent, size, flip=None, order=None):
    """Return matrices that crop and resize along one axis, (n, size, extent) float32.

    Parameters
    ----------
    start, length : (n,) tensors
        First pixel and number of pixels of the crop.
    extent : int
        Pixels of the axis before cropping.
    size : int
        Pixels of the axis after resizing.
    flip : (n,) bool, optional
        Mirror the result.
    order : (n, parts) integers, optional
        The axis is first divided into `parts` equal strips; strip i is replaced by strip order[i].

    Notes
    -----
    A triangle filter of half-width max(1, length / size) source pixels around each target pixel's
    centre, restricted to the crop, with weights that sum to one: bilinear when enlarging,
    antialiased when reducing.
    """
    start, length = start.float()[:, None, None], length.float()[:, None, None]
    scale = length / size
    target = torch.arange(size, device=start.device, dtype=torch.float32)[None, :, None]
    if flip is not None:
        target = torch.where(flip[:, None, None], size - 1 - target, target)
    source = torch.arange(extent, device=start.device, dtype=torch.float32)[None, None, :]
    distance = (source + 0.5 - start - (target + 0.5) * scale).abs()
    weights = (1 - distance / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((source >= start) & (source < start + length))
    # Beyond the image all weights are 0, and so is their normalised sum: black.
    weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-6)
    if order is None:
        return weights
    parts = order.shape[1]
    strips = weights.unflatten(2, (parts, extent // parts))
    place = order.argsort(1)[:, None, :, None].expand_as(strips)
    return strips.gather(2, place).flatten(2)


def cut(images, boxes, size, flip=None, order=None):
    """Crop boxes from images and resize them to size × size pixels.

    Parameters
    ----------
    images : (n, channels, height, width) uint8 or float
    boxes : (n, 4) integers
        Top, left, height, width [px]. Pixels beyond the image are 0.
    size : int
        Side of the result [px].
    flip : (n,) bool, optional
        Mirror left and right.
    order : (n, 2 × parts) integers, optional
        Permutation of the columns of patches, then of the rows, before the crop; `parts` divides
        the side of the image.

    Returns
    -------
    (n, channels, size, size) float32, in the units of `images`
    """
    columns = rows = None
    if order is not None:
        columns, rows = order.chunk(2, dim=1)
    down = resampling(boxes[:, 0], boxes[:, 2], images.shape[2], size, order=rows)
    across = resampling(boxes[:, 1], boxes[:, 3], images.shape[3], size, flip, columns)
    return down[:, None] @ images.float() @ across[:, None].transpose(2, 3)


def pad(images, size):
    """Pad images with zeros to size × size pixels, the image centred."""
    spare = size - images.shape[-1]
    before = spare // 2
    return torch.nn.functional.pad(images, (before, spare - before) * 2)


def normalise(images):
    """Return pixels in [0, 255] normalised by ImageNet's mean and deviation, float32."""
    mean = images.new_tensor([255 * m for m in MEAN], dtype=torch.float32)[:, None, None]
    std = images.new_tensor([255 * s for s in STD], dtype=torch.float32)[:, None, None]
    return (images - mean) / std


def to_unit(images):
    """Return pixels in [0, 255], integers or not, in the range [-1, 1], float32."""
    return images.float() / 127.5 - 1


def round_to_uint8(pixels):
    """Return float pixels rounded to the nearest of 0 … 255, as a uint8 tensor."""
    return pixels.round().clamp(0, 255).to(torch.uint8)


def pixels_to_bytes(pixels, rounding):
    """Return float pixels in [0, 255] as a uint8 array.

    Parameters
    ----------
    pixels : float tensor on the CPU
    rounding : str
        ``truncate`` (RDED's code) or ``nearest``.
    """
    if rounding == "nearest":
        return round_to_uint8(pixels).numpy()
    # Interpolation gives 254.99999 for 255: a thousandth more before truncation.
    return (pixels + 1e-3).clamp(0, 255).to(torch.uint8).numpy()


def unit_to_bytes(images):
    """Return images in [-1, 1] as (n, 3, height, width) uint8 array, rounded to the nearest."""
    return round_to_uint8((images + 1) * 127.5).cpu().numpy()


def normalised_to_bytes(images):
    """Return normalised images as (n, 3, side, side) uint8 array, rounded to the nearest."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return round_to_uint8((images.detach() * std + mean) * 255).cpu().numpy()
