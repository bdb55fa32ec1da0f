"""The codec of a slice in torch: latents and networks in one vector, decoding, and rate.

Bao et al., "Dataset Distillation as Data Compression", supplement A2; nouise/DD-RUO at f6fc102,
core/ts: upsampling_func.py:43-114, synthesis_func.py:18-110, arm_func.py. What is decoded from
files is `stillhouse.data.bitstream.networks`, the same functions of fixed-point numbers.
"""

import math

import numpy as np
import torch
from torch.nn.functional import pad

from stillhouse.data.bitstream.layout import STREAMS, context_offsets
from stillhouse.methods.ruo.tiles import tiled

# Range of ln b, and most bits per latent (arm_func.py:109-126).
SCALES, SHIFT, LEAST = (-4.6, 5.0), 4.0, 2.0**-16
# Range of the initial latents (tensor_data_func_v6.py:170-175).
SPREAD = 0.05
BORDER = 4
PLACES_3 = [(top, left) for top in range(3) for left in range(3)]
PLACES_5 = [(top, left) for top in range(5) for left in range(5)]
CUBIC = -0.75


class Codec:
    """Latents and networks of one slice as views of one vector.

    Parameters
    ----------
    layout : stillhouse.data.bitstream.layout.Layout
    n_images : int
    """

    def __init__(self, layout, n_images):
        self.layout, self.n_images = layout, n_images
        grids = [(n_images, side, side) for side in layout.sides]
        self.shapes = [*grids, *(shape for name in STREAMS for shape in layout.shapes[name])]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.n_latents = sum(self.sizes[: len(grids)])
        self.n_pixels = n_images * layout.resolution**2

    def initial(self, rng):
        """Return initial latents and networks, (n,) float32.

        Latents uniform in ±0.05; pixelwise layers of the decoder uniform in ±1/√in, divided by
        out² (synthesis_func.py:57); the entropy network's last layer normal, divided by 4; the
        upsampling kernel bicubic; all else zero.

        Parameters
        ----------
        rng : numpy.random.Generator
        """
        grids = (2 * SPREAD * rng.random(self.n_latents, np.float32) - SPREAD,)
        parts = [torch.zeros(size) for size in self.sizes[len(self.layout.sides) :]]
        named = dict(zip(STREAMS, self._by_stream(parts), strict=True))
        last = named["entropy_weights"][-1]
        last.copy_(torch.from_numpy(rng.standard_normal(len(last), np.float32) / 4))
        named["upsampling_weights"][0].copy_(bicubic_kernel().flatten())
        for values, (out, width) in zip(
            named["decoder_weights"], self.layout.decoder_layers[:-2], strict=False
        ):
            uniform = torch.from_numpy(rng.random(len(values), np.float32))
            values.copy_((2 * uniform - 1) / math.sqrt(width) / out**2)
        return torch.cat([torch.from_numpy(grids[0]), *parts])

    def _by_stream(self, parts):
        parts = iter(parts)
        return [[next(parts) for _ in self.layout.shapes[name]] for name in STREAMS]

    def parts(self, vector):
        """Return (latents, networks) of a vector: (n_latents,) and {stream: shaped tensors}."""
        first = len(self.layout.sides)
        latents, *parts = vector.split([self.n_latents, *self.sizes[first:]])
        shaped = [part.view(s) for part, s in zip(parts, self.shapes[first:], strict=True)]
        return latents, dict(zip(STREAMS, self._by_stream(shaped), strict=True))

    def grids(self, latents):
        """Return latents, (n_latents,), as a list of (n, side, side), finest first."""
        count = len(self.layout.sides)
        parts = latents.split(self.sizes[:count])
        return [part.view(s) for part, s in zip(parts, self.shapes[:count], strict=True)]

    def bits(self, quantised, networks):
        """Return the bits of all latents, a scalar: -log2 of the Laplace probability of each.

        Parameters
        ----------
        quantised : (n_latents,) float tensor
            Rounded, or softly with noise.
        networks : dict
            See `parts`.
        """
        offsets = context_offsets(self.layout.context)
        columns = torch.cat([_with_context(grid, offsets) for grid in self.grids(quantised)], 1)
        parameters = [*networks["entropy_weights"], *networks["entropy_biases"]]
        return tiled(_latent_bits, columns, parameters, self.layout.context).sum()

    def images(self, quantised, networks):
        """Return images of all latents, (n, 3, side, side), about 0 to 1, not clamped."""
        grids = self.grids(quantised)
        stack = grids[-1][None]
        for grid in grids[-2::-1]:
            finer = upsample(stack, networks["upsampling_weights"][0])
            stack = torch.cat([grid[None], finer[:, :, : grid.shape[1], : grid.shape[2]]])
        weights, biases = networks["decoder_weights"], networks["decoder_biases"]
        parameters = [*weights[:-2], *biases[:-2]]
        colours = tiled(_colours, stack.flatten(1), parameters, self.layout.widths[0])
        x = colours.view(3, *stack.shape[1:])
        x = _residual(x, weights[-2], biases[-2]).relu()
        return _residual(x, weights[-1], biases[-1]).transpose(0, 1)


class _Shifted(torch.autograd.Function):
    """Cuts of padded images, stacked: (m, h, w) to (k, m, side, side), k offsets (top, left)."""

    @staticmethod
    def forward(context, padded, offsets, side):
        context.offsets, context.shape = offsets, padded.shape
        result = padded.new_empty(len(offsets), len(padded), side, side)
        for own, (top, left) in zip(result, offsets, strict=True):
            own.copy_(padded[:, top : top + side, left : left + side])
        return result

    @staticmethod
    def backward(context, gradient):
        total, side = gradient.new_zeros(context.shape), gradient.shape[-1]
        for own, (top, left) in zip(gradient, context.offsets, strict=True):
            total[:, top : top + side, left : left + side] += own
        return total, None, None


def _with_context(grid, offsets):
    """Return latents of one grid with their contexts, (1 + C, n × side²)."""
    places = [(BORDER, BORDER), *((BORDER + row, BORDER + column) for row, column in offsets)]
    padded = pad(grid, (BORDER, BORDER, BORDER, 0))
    return _Shifted.apply(padded, places, grid.shape[-1]).flatten(1)


def _latent_bits(columns, *parameters):
    """Return the bits of latents, (1, n), from columns of a latent and its context."""
    weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
    x = columns[1:]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = (torch.addmm(bias[:, None], weight, x) + x).relu()
    mean, raw = torch.addmm(biases[-1][:, None], weights[-1], x)
    return laplace_bits(columns[0] - mean, (raw - SHIFT).clamp(*SCALES))[None]


def laplace_bits(difference, log_scale):
    """Return -log2 of the probability of [d - 1/2, d + 1/2], at most 16, of a Laplace distribution.

    Parameters
    ----------
    difference : tensor
        Value minus mean (d).
    log_scale : tensor
        ln b.
    """
    rate = torch.exp(-log_scale)
    distance = difference.abs()
    # Outside of the peak: exp(-d / b) sinh(1 / 2b); around it 1 - exp(-1 / 2b) cosh(d / b).
    near, far = ((0.5 - distance) * rate), ((0.5 + distance) * rate)
    inside = 1 - 0.5 * (torch.exp(-near.clamp(min=0)) + torch.exp(-far))
    outside = 0.5 * (torch.exp(near.clamp(max=0)) - torch.exp(-far))
    probability = torch.where(near >= 0, inside, outside)
    return -torch.log2(probability.clamp(min=LEAST))


def _colours(stack, *parameters):
    """Return the output of the layers of one pixel, (3, pixels)."""
    weights, biases = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
    x = stack
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = torch.addmm(bias[:, None], weight, x).relu_()
    return torch.addmm(biases[-1][:, None], weights[-1], x)


def _residual(x, weight, bias):
    """Return x plus its 3 × 3 convolution with replicated edges, (3, n, side, side)."""
    padded = pad(x, (1, 1, 1, 1), mode="replicate").flatten(0, 1)
    windows = _Shifted.apply(padded, PLACES_3, x.shape[-1])
    windows = windows.view(9, 3, -1).transpose(0, 1).reshape(27, -1)
    return x + torch.addmm(bias[:, None], weight.flatten(1), windows).view(x.shape)


def upsample(stack, kernel):
    """Return (channels, n, side, side) enlarged to twice the side by a learned 8 × 8 kernel.

    A transposed convolution of stride 2 on replicated edges (upsampling_func.py:43-114): output
    2m + p sums inputs m - 2 + p … m + 1 + p times every second tap from 7 - p down.
    """
    channels, n, side, _ = stack.shape
    padded = pad(stack, (2, 2, 2, 2), mode="replicate").flatten(0, 1)
    windows = _Shifted.apply(padded, PLACES_5, side).flatten(1)
    out = phases(kernel) @ windows
    out = out.view(2, 2, channels, n, side, side).permute(2, 3, 4, 0, 5, 1)
    return out.reshape(channels, n, 2 * side, 2 * side)


def phases(kernel):
    """Return an upsampling kernel as four kernels of 5 × 5 inputs, (4, 25)."""
    taps = kernel.flip(0, 1).view(4, 2, 4, 2)
    quarters = [pad(taps[:, i, :, j], (j, 1 - j, i, 1 - i)) for i in (0, 1) for j in (0, 1)]
    return torch.stack(quarters).flatten(1)


def bicubic_kernel():
    """Return the kernel of bicubic enlargement by two, (8, 8) float32, coefficient -0.75."""
    distances = torch.tensor([1.75, 1.25, 0.75, 0.25, 0.25, 0.75, 1.25, 1.75], dtype=torch.float64)
    near = ((CUBIC + 2) * distances - (CUBIC + 3)) * distances**2 + 1
    far = CUBIC * (((distances - 5) * distances + 8) * distances - 4)
    taps = torch.where(distances <= 1, near, far)
    return torch.outer(taps, taps).float()
