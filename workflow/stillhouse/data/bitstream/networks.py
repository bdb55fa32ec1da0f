"""Quantised networks of a slice, and their arithmetic on fixed-point numbers.

All numbers are integers, or fractions with a power of two below, held as float64. Sums of products
stay below 2^53 units, which is checked, so they are exact in any order, with and without
fused operations, and every NumPy, BLAS and number of threads gives the same values. Rounding is to
the nearest, ties to the even.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stillhouse.data.bitstream.layout import KERNEL, STREAMS
from stillhouse.data.bitstream.tables import HIGHEST, LOWEST, MEAN_STEPS, SCALE_STEPS
from stillhouse.errors import StillhouseError

EXACT = 2.0**53
MOST_LATENT = 2**15 - 1
# Bits after the point: of the entropy network's activations, of upsampled latents and hidden
# activations, of images.
ENTROPY_BITS, HIDDEN_BITS, IMAGE_BITS = 12, 12, 16
# Activations of the entropy network are cut off here.
MOST_ACTIVATION = 2.0 ** (15 + ENTROPY_BITS)
# The scale of a latent is exp(raw - 4) (C arm_func.py:126).
SCALE_SHIFT = 4
# Pixels whose hidden activations are computed at once, for them to stay in a cache.
TILE = 128
FINEST = 16  # a step size is 2^-16 or more


class Networks:
    """The networks of a slice.

    Parameters
    ----------
    layout : stillhouse.data.bitstream.layout.Layout
    steps : dict of str to int
        Of each stream, n for a step size of 2^-n, 0 to 16.
    values : dict of str to (count,) int64 array
        Of each stream, the parameters in steps.

    Raises
    ------
    StillhouseError
        If sums of the entropy network could exceed 2^53 units.
    """

    def __init__(self, layout, steps, values):
        self.layout, self.steps, self.values = layout, steps, values
        parts = {name: self._split(name) for name in STREAMS}
        self.entropy = self._entropy(*(parts[f"entropy_{part}"] for part in ("weights", "biases")))
        self.kernel = _phases(parts["upsampling_weights"][0])
        weights, biases = (parts[f"decoder_{part}"] for part in ("weights", "biases"))
        self._prepare_decoder(weights, biases)

    def _split(self, name):
        """Return the parameters of a stream by their shapes, as exact float64 arrays."""
        shapes, values = self.layout.shapes[name], self.values[name] / 2.0 ** self.steps[name]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = np.split(values, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _entropy(self, weights, biases):
        """Return the entropy network's layers as (transposed weights, biases in units)."""
        layers = []
        for weight, bias in zip(weights, biases, strict=True):
            most = MOST_ACTIVATION * (np.abs(weight).sum(1).max() + 1)
            self._check(most + np.abs(bias).max() * 2.0**ENTROPY_BITS, "entropy", ENTROPY_BITS)
            layers.append((np.ascontiguousarray(weight.T), bias * 2.0**ENTROPY_BITS))
        return layers

    def _prepare_decoder(self, weights, biases):
        """Store the decoder's layers, biases in units: those of one pixel, and the spatial ones."""
        self.pixelwise, self.spatial = [], []
        for weight, bias in zip(weights[:-2], biases[:-2], strict=True):
            self.pixelwise.append((np.ascontiguousarray(weight.T), bias * 2.0**HIDDEN_BITS))
        for weight, bias in zip(weights[-2:], biases[-2:], strict=True):
            # Rows of taps, then channels, as `_windows` has them.
            matrix = weight.transpose(2, 3, 1, 0).reshape(-1, 3)
            self.spatial.append((np.ascontiguousarray(matrix), bias * 2.0**IMAGE_BITS))

    def check(self, most_latent):
        """Raise a `StillhouseError` if sums from latents to pixels could exceed 2^53 units.

        Parameters
        ----------
        most_latent : int
            Largest magnitude of the latents.
        """
        most = most_latent * 2.0**HIDDEN_BITS
        grow = np.abs(self.kernel).sum(0).max()
        for _ in self.layout.sides[1:]:
            self._check(most * grow, "upsampling", HIDDEN_BITS)
            most = max(most * grow, most_latent * 2.0**HIDDEN_BITS) + 1
        for weights, biases in self.pixelwise:
            most = most * np.abs(weights).sum(0).max() + np.abs(biases).max() + 1
            self._check(most, "decoder", HIDDEN_BITS)
        most *= 2.0 ** (IMAGE_BITS - HIDDEN_BITS)
        for weights, biases in self.spatial:
            most = most * (np.abs(weights).sum(0).max() + 1) + np.abs(biases).max() + 1
            self._check(most, "decoder", IMAGE_BITS)

    def _check(self, most, network, bits):
        """Raise if sums of up to `most` units are not exact in float64."""
        fraction = max(
            self.steps[f"{network}_weights"], self.steps.get(f"{network}_biases", 0) - bits
        )
        if not most * 2.0 ** max(fraction, 0) <= EXACT:
            raise StillhouseError(
                f"its {network} has weights that are too large for exact sums; copy it again, or "
                "quantise with coarser steps"
            )

    def distributions(self, contexts):
        """Return the distributions of latents from their contexts.

        Parameters
        ----------
        contexts : (n, C) float64
            Neighbouring latents, integers.

        Returns
        -------
        mean, scale : (n,) int64
            Mean in sixteenths; ln b in eighths, within the tables.
        """
        x = contexts * 2.0**ENTROPY_BITS
        for weights, biases in self.entropy[:-1]:
            x += np.rint(x @ weights + biases)
            np.clip(x, 0, MOST_ACTIVATION, out=x)
        weights, biases = self.entropy[-1]
        out = (x @ weights + biases) / 2.0**ENTROPY_BITS
        mean = np.rint(out[:, 0] * MEAN_STEPS)
        np.clip(mean, -MOST_LATENT * MEAN_STEPS, MOST_LATENT * MEAN_STEPS, out=mean)
        scale = np.clip(np.rint((out[:, 1] - SCALE_SHIFT) * SCALE_STEPS), LOWEST, HIGHEST)
        return mean.astype(np.int64), scale.astype(np.int64)

    def images(self, grids):
        """Return the pixels of images, (n, 3, side, side) uint8.

        Parameters
        ----------
        grids : list of (n, side, side) integer arrays
            Latents, finest grid first.
        """
        values = self.values_of(grids)
        pixels = np.floor(values * 255 / 2.0**IMAGE_BITS + 0.5)
        return np.clip(pixels, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)

    def values_of(self, grids):
        """Return unclamped images in units of 2^-16, (n, side, side, 3) float64.

        Raises
        ------
        StillhouseError
            If their sums could exceed 2^53 units.
        """
        self.check(max(int(np.abs(grid).max()) for grid in grids))
        n, side = len(grids[0]), self.layout.resolution
        stack = self._upsampled(grids)
        values = self._colours(stack.reshape(n * side * side, -1)).reshape(n, side, side, 3)
        for number, (weights, biases) in enumerate(self.spatial):
            windows = _windows(values)
            values = np.rint(values + (windows @ weights + biases))
            if number == 0:
                np.maximum(values, 0, out=values)
        return values

    def _upsampled(self, grids):
        """Return latents of all grids at full resolution and ones, in units.

        (n, side, side, grids + 1); the ones are the last.
        """
        unit = 2.0**HIDDEN_BITS
        stack = grids[-1][:, None] * unit
        for grid in grids[-2::-1]:
            side = grid.shape[-1]
            finer = _upsample(stack, self.kernel)[:, :, :side, :side]
            stack = np.concatenate([grid[:, None] * unit, finer], 1)
        n, grids, side, _ = stack.shape
        result = np.ones((n, side, side, grids + 1))
        result[..., :-1] = stack.transpose(0, 2, 3, 1)
        return result

    def _colours(self, stack):
        """Return the output of the layers of one pixel, (pixels, 3), in units of 2^-16."""
        result = np.empty((len(stack), 3))
        # Biases as weights of the constant input: one pass less over the outputs.
        layers = [(np.vstack(self.pixelwise[0]), None), *self.pixelwise[1:-1]]
        hidden = [np.empty((TILE, weights.shape[1])) for weights, _ in layers]
        for first in range(0, len(stack), TILE):
            x = stack[first : first + TILE]
            for (weights, biases), buffer in zip(layers, hidden, strict=True):
                x = np.matmul(x, weights, out=buffer[: len(x)])
                if biases is not None:
                    x += biases
                np.rint(x, out=x)
                np.maximum(x, 0, out=x)
            weights, biases = self.pixelwise[-1]
            result[first : first + TILE] = x @ weights + biases
        result *= 2.0 ** (IMAGE_BITS - HIDDEN_BITS)
        return np.rint(result, out=result)


def _phases(kernel):
    """Return the upsampling kernel as four kernels of 5 × 5 inputs, (25, 4).

    A transposed convolution of stride 2 adds, to output 2m, inputs m - 2 … m + 1 times taps 7, 5,
    3, 1, and to output 2m + 1, inputs m - 1 … m + 2 times taps 6, 4, 2, 0 (C upsampling_func.py:
    43-114, with its padding and cropping).
    """
    result = np.zeros((5, 5, 2, 2))
    taps = {0: [(0, 7), (1, 5), (2, 3), (3, 1)], 1: [(1, 6), (2, 4), (3, 2), (4, 0)]}
    assert kernel.shape == (KERNEL, KERNEL)
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for row, own_row in taps[down]:
            for column, own_column in taps[across]:
                result[row, column, down, across] = kernel[own_row, own_column]
    return result.reshape(25, 4)


def _upsample(stack, phases):
    """Return (n, channels, h, w) enlarged to (n, channels, 2h, 2w), rounded to units."""
    n, channels, height, width = stack.shape
    padded = np.pad(stack, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    windows = sliding_window_view(padded, (5, 5), axis=(2, 3)).reshape(-1, 25)
    out = np.rint(windows @ phases).reshape(n, channels, height, width, 2, 2)
    return out.transpose(0, 1, 2, 4, 3, 5).reshape(n, channels, 2 * height, 2 * width)


def _windows(values):
    """Return the 3 × 3 windows of (n, side, side, 3) with replicated edges, (n, side, side, 27)."""
    side = values.shape[1]
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    parts = [padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3)]
    return np.concatenate(parts, 3)
