"""Mean and variance of feature maps, and frozen batch norms, in few passes over memory.

Faster than the plain operations on a CPU; not measured on a GPU.
"""

import torch
from torch.nn.functional import interpolate

# Largest number of positions of a map that is enlarged by a matrix product.
SMALL = 64


def frozen_batchnorm(norm):
    """Return the forward function of a frozen batch norm: for float32, one product and sum.

    Its backward pass is one product and takes half the time of torch's.
    """
    weight, bias = (norm.weight, norm.bias) if norm.affine else (1, 0)
    scale = (norm.running_var + norm.eps).rsqrt() * weight
    shift = bias - norm.running_mean * scale
    scale, shift = scale[:, None, None], shift[:, None, None]
    original = norm.forward

    def forward(maps):
        if maps.dtype == scale.dtype:
            return torch.addcmul(shift, maps, scale)
        return original(maps)

    return forward


def mean_variance(maps, tile=0):
    """Return mean and variance of each image's maps, per channel and per tile.

    Parameters
    ----------
    maps : (n, channels, height, width) floating point
    tile : int
        Side of the tiles [px]; 0 for none. A map is first enlarged bilinearly, to the next
        multiples of it.

    Returns
    -------
    channel : (mean, variance), each (n, channels)
    tiles : (mean, variance), each (n, rows × columns of tiles), over channels and the tile's
        positions; None without tiles

    Notes
    -----
    Variances divide by the count: biased, as of a population.
    """
    if maps.dtype in (torch.bfloat16, torch.float16):
        maps = maps.float()
    height, width = maps.shape[2:]
    if not tile:
        return MeanVariance.apply(maps, height, width)[:2], None
    if height % tile or width % tile:
        channel = MeanVariance.apply(maps, height, width)[:2]
        return channel, MeanVariance.apply(_enlarged(maps, tile), tile, tile)[2:]
    values = MeanVariance.apply(maps, tile, tile)
    return values[:2], values[2:]


def _enlarged(maps, tile):
    """Enlarge maps to the next multiple of a tile's side, bilinearly.

    Small maps by one matrix product, because torch's backward pass is slow for them.
    """
    height, width = maps.shape[2:]
    sides = [-(-side // tile) * tile for side in (height, width)]
    if height * width > SMALL:
        return interpolate(maps, sides, mode="bilinear", align_corners=False)
    places = torch.eye(height * width, dtype=maps.dtype, device=maps.device)
    places = places.view(-1, 1, height, width)
    matrix = interpolate(places, sides, mode="bilinear", align_corners=False).flatten(1)
    with torch.autocast(maps.device.type, enabled=False):
        return (maps.flatten(2) @ matrix).unflatten(2, sides)


class MeanVariance(torch.autograd.Function):
    """Mean and variance per channel and per tile, in one forward and one backward pass.

    The gradient of all four with respect to a value y is a + b y, with a and b constant over a
    channel's part of a tile.
    """

    @staticmethod
    def forward(ctx, maps, rows, columns):
        """Return mean and variance per channel, then per tile of rows × columns positions."""
        grid = maps.shape[2] // rows, maps.shape[3] // columns
        if grid == (1, 1):
            first = maps.mean((2, 3))
            second = torch.linalg.vector_norm(maps, dim=(2, 3)).square() / (rows * columns)
            channel = first, second
            tiles = first.mean(1, keepdim=True), second.mean(1, keepdim=True)
        else:
            first, second = _pooled(maps, grid)
            channel = first.mean((2, 3)), second.mean((2, 3))
            tiles = first.mean(1).flatten(1), second.mean(1).flatten(1)
        ctx.save_for_backward(maps, channel[0], tiles[0])
        ctx.grid = grid
        ctx.set_materialize_grads(False)
        return tuple(
            value
            for mean, square in (channel, tiles)
            for value in (mean, (square - mean.square()).clamp(min=0))
        )

    @staticmethod
    def backward(ctx, *gradients):
        """Return the gradient with respect to the maps."""
        maps, channel, tiles = ctx.saved_tensors
        n, channels, height, width = maps.shape
        rows, columns = ctx.grid
        places, in_tile = height * width, channels * height * width // (rows * columns)
        offset = factor = maps.new_zeros((1, 1, 1, 1))
        for (to_mean, to_variance), mean, shape, count in (
            (gradients[:2], channel, (n, channels, 1, 1), places),
            (gradients[2:], tiles, (n, 1, rows, columns), in_tile),
        ):
            if to_mean is not None:
                offset = offset + (to_mean / count).reshape(shape)
            if to_variance is not None:
                slope = (to_variance * (2 / count)).reshape(shape)
                factor = factor + slope
                offset = offset - slope * mean.reshape(shape)
        if factor.shape[2:] == (1, 1) and offset.shape[2:] == (1, 1):
            return torch.addcmul(offset, maps, factor), None, None
        offset, factor = (
            term.expand(-1, -1, rows, columns).repeat_interleave(width // columns, 3)[:, :, :, None]
            for term in (offset, factor)
        )
        gradient = torch.addcmul(offset, maps.unflatten(2, (rows, -1)), factor)
        return gradient.flatten(2, 3), None, None


def _pooled(maps, grid):
    """Return the means of a map's values and of their squares over tiles.

    Each (n, channels, rows, columns). A tile's rows are summed, then its columns, by slices:
    reductions over few numbers take three times as long on a CPU.
    """
    rows, columns = grid
    lines = maps.unflatten(2, (rows, -1)).unbind(3)
    first, second = torch.zeros_like(lines[0]), torch.zeros_like(lines[0])
    for line in lines:
        first += line
        second.addcmul_(line, line)
    count = maps.shape[2] * maps.shape[3] // (rows * columns)
    return tuple(sum(x.unflatten(3, (columns, -1)).unbind(4)) / count for x in (first, second))
