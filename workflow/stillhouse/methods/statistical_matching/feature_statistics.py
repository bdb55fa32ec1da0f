"""What the layers of a frozen network see: mean and variance of their inputs, image by image.

G-VBSM (Shao et al., CVPR 2024) and EDC (Shao et al., NeurIPS 2024) match the inputs of batch norms
and convolutions, a channel at a time, and of convolutions also a tile of the map at a time.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import interpolate

# Places of a map up to which it is enlarged by a matrix product.
SMALL = 64
KINDS = {nn.BatchNorm2d: "batchnorm", nn.Conv2d: "convolution"}


class Part(NamedTuple):
    """A group of numbers that is compared as one vector: a layer's channels or tiles."""

    kind: str  # batchnorm or convolution
    layer: str
    what: str  # channel or tile

    @property
    def name(self):
        """Name in a statistics artifact."""
        return ".".join(self)


class Watch:
    """A network whose layers' inputs are looked at.

    The network is changed for good: it is to stay on its device, with the weights that it has.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode, without gradients.
    kinds : collection of str
        ``batchnorm`` (`BatchNorm2d`), ``convolution`` (`Conv2d`) or both.
    tile : int
        Side of the tiles of the map that a convolution sees [px]; 0 for none.
    """

    def __init__(self, net, kinds, tile):
        self.net, self.tile, self.seen, self.looking = net, tile, {}, True
        for name, module in net.named_modules():
            kind = next((kind for of, kind in KINDS.items() if isinstance(module, of)), None)
            if kind in kinds:
                module.register_forward_pre_hook(self._hook(kind, name))
            # Not of timm's, which have a nonlinearity in them.
            plain = kind == "batchnorm" and type(module).forward is nn.BatchNorm2d.forward
            if plain and module.track_running_stats:
                module.forward = _affine(module)

    def __call__(self, images):
        """Return (logits, moments) of normalised images.

        moments : dict of Part to (mean, variance)
            In the order in which the network meets them; each (n, channels or tiles), in the
            precision of the network's inputs but for half precision, which becomes float32.
        """
        self.seen = {}
        logits = self.net(images)
        moments, self.seen = self.seen, {}
        return logits, moments

    def unwatched(self, images):
        """Return the logits of normalised images, without a look at the layers."""
        self.looking = False
        try:
            return self.net(images)
        finally:
            self.looking = True

    def _hook(self, kind, name):
        def look(module, given):
            if not self.looking or Part(kind, name, "channel") in self.seen:
                return  # of a layer that is used twice, its first use is looked at
            tile = self.tile if kind == "convolution" else 0
            channel, tiles = moments(given[0], tile)
            self.seen[Part(kind, name, "channel")] = channel
            if tiles is not None:
                self.seen[Part(kind, name, "tile")] = tiles

        return look


def _affine(norm):
    """Return what a frozen batch norm does, of float32 as one product and sum.

    Its way back is one product, which takes half the time of torch's.
    """
    weight, bias = (norm.weight, norm.bias) if norm.affine else (1, 0)
    scale = (norm.running_var + norm.eps).rsqrt() * weight
    shift = bias - norm.running_mean * scale
    scale, shift = scale[:, None, None], shift[:, None, None]
    others = norm.forward
    return lambda maps: (
        torch.addcmul(shift, maps, scale) if maps.dtype == scale.dtype else others(maps)
    )


def moments(maps, tile=0):
    """Return the moments of each image's maps: over the places of a channel, and over a tile.

    Parameters
    ----------
    maps : (n, channels, height, width) floating point
    tile : int
        Side of the tiles [px]; 0 for none. A map that it does not divide is first enlarged to the
        next multiple, bilinearly.

    Returns
    -------
    channel : (mean, variance), each (n, channels)
    tiles : (mean, variance), each (n, rows × columns of tiles), over channels and the tile's
        places; None without tiles

    Notes
    -----
    Variances are of the numbers themselves, not estimates (divided by their count).
    """
    if maps.dtype in (torch.bfloat16, torch.float16):
        maps = maps.float()
    height, width = maps.shape[2:]
    if not tile:
        return _Moments.apply(maps, height, width)[:2], None
    if height % tile or width % tile:
        channel = _Moments.apply(maps, height, width)[:2]
        return channel, _Moments.apply(_enlarged(maps, tile), tile, tile)[2:]
    found = _Moments.apply(maps, tile, tile)
    return found[:2], found[2:]


def _enlarged(maps, tile):
    """Bring maps to the next multiple of a tile's side, bilinearly.

    Small ones by one matrix product: torch's own way back is slow where there is little to do.
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


class _Moments(torch.autograd.Function):
    """Both kinds of moments from one pass over the maps, and one back.

    The gradient of all four with respect to a value y is a + b y, with a and b constant over a
    channel's part of a tile.
    """

    @staticmethod
    def forward(ctx, maps, rows, columns):
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
            part.expand(-1, -1, rows, columns).repeat_interleave(width // columns, 3)[:, :, :, None]
            for part in (offset, factor)
        )
        found = torch.addcmul(offset, maps.unflatten(2, (rows, -1)), factor)
        return found.flatten(2, 3), None, None


def _pooled(maps, grid):
    """Return the means over a map's tiles of its numbers, and of their squares.

    Each (n, channels, rows, columns). A tile's rows are added up, then its columns: slices in
    place of reductions, which on a CPU take three times as long over so few numbers.
    """
    rows, columns = grid
    lines = maps.unflatten(2, (rows, -1)).unbind(3)
    first, second = torch.zeros_like(lines[0]), torch.zeros_like(lines[0])
    for line in lines:
        first += line
        second.addcmul_(line, line)
    count = maps.shape[2] * maps.shape[3] // (rows * columns)
    return tuple(
        sum(part.unflatten(3, (columns, -1)).unbind(4)) / count for part in (first, second)
    )
