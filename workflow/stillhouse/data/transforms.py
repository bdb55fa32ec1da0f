"""Image operations on whole batches, on the device: crop, flip, resize, shuffle, mix, normalise.

Cropping and resizing is two matrix products an image, exact to torchvision's antialiased bilinear
`resized_crop`; flips and patch permutations reorder the matrices and cost nothing.
"""

import torch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def resampling(start, length, extent, size, flip=None, order=None):
    """Return the matrices that cut and resize one axis, (n, size, extent) float32.

    Parameters
    ----------
    start, length : (n,) tensors
        First pixel and number of pixels of the cut.
    extent : int
        Pixels of the axis before.
    size : int
        Pixels of the axis after.
    flip : (n,) bool, optional
        Mirror the result.
    order : (n, parts) integers, optional
        The axis is first divided into `parts` equal strips; strip i then shows strip order[i].

    Notes
    -----
    A triangle filter of half-width max(1, length / size) source pixels around each target pixel's
    centre, confined to the cut and normalised: bilinear when enlarging, antialiased when reducing.
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
    weights = weights / weights.sum(2, keepdim=True)
    if order is None:
        return weights
    parts = order.shape[1]
    strips = weights.unflatten(2, (parts, extent // parts))
    place = order.argsort(1)[:, None, :, None].expand_as(strips)
    return strips.gather(2, place).flatten(2)


def cut(images, boxes, size, flip=None, order=None):
    """Cut boxes from images and bring them to size × size pixels.

    Parameters
    ----------
    images : (n, channels, height, width) uint8 or float
    boxes : (n, 4) integers
        Top, left, height, width [px].
    size : int
        Side of the result [px].
    flip : (n,) bool, optional
        Mirror left and right.
    order : (n, 2 × parts) integers, optional
        Permutation of the columns of patches, then of the rows, before the cut; as many parts as
        divide the image evenly.

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


def normalise(images):
    """Return images in [0, 255] with ImageNet's mean and deviation taken out, float32."""
    mean = images.new_tensor([255 * m for m in MEAN], dtype=torch.float32)[:, None, None]
    std = images.new_tensor([255 * s for s in STD], dtype=torch.float32)[:, None, None]
    return (images - mean) / std


def pad(images, size):
    """Put images in the middle of size × size pixels of zeros."""
    spare = size - images.shape[-1]
    before = spare // 2
    return torch.nn.functional.pad(images, (before, spare - before) * 2)
