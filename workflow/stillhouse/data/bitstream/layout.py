"""Shapes of the codec: latent grids, contexts, networks and their parameter counts.

Bao et al., "Dataset Distillation as Data Compression: A Rate-Utility Perspective", supplement A2
and Table A1 (P below); official code nouise/DD-RUO at f6fc102, core/ts (C below), after C3 (Kim et
al., CVPR 2024) and Cool-chic (Ladune et al., ICCV 2023). Plain integers: both the optimisation and
the decoder of files use this module.
"""

from dataclasses import dataclass
from functools import cached_property

MOST_GRIDS = 6
# Side of the upsampling kernel (P A2: size 8), and of the window that contexts lie in.
KERNEL, WINDOW = 8, 9
# Places of the context in the flattened 9 × 9 window around a latent, whose own place is 40, by
# context size C (C synthesis of arm_func.py:221-347). P also lists 64, but only 40 are causal.
CONTEXTS = {
    8: (13, 22, *range(30, 33), *range(37, 40)),
    16: (13, 14, *range(20, 25), *range(28, 34), *range(37, 40)),
    24: (4, *range(11, 16), *range(19, 26), *range(28, 35), *range(36, 40)),
    32: (*range(2, 6), *range(10, 17), *range(19, 27), *range(27, 36), *range(36, 40)),
}
# D1 and D2 of P Table A1; D3 is 3. The last is for images of 8 to 16 px, and not in the table.
DECODERS = {
    "v4-40": (40, 0),
    "v4-160": (160, 0),
    "v4-240": (240, 0),
    "v4-480": (480, 0),
    "v4-960": (960, 0),
    "v4-1200": (1200, 0),
    "v5-240": (240, 40),
    "v5-320": (320, 40),
    "v4-16": (16, 0),
}
# Parameters that are quantised with one step size each, in the order of the file.
STREAMS = (
    "entropy_weights",
    "entropy_biases",
    "upsampling_weights",
    "decoder_weights",
    "decoder_biases",
)


def grid_sides(resolution):
    """Return the sides of the latent grids of an image, finest first.

    Six grids from 64 px on, else floor(log2(side)) + 1 (C tensor_data_func_v6.py:342-345); each
    has half the side of the one before, rounded up.
    """
    count = MOST_GRIDS if resolution >= 64 else resolution.bit_length()
    return [-(-resolution // 2**level) for level in range(count)]


def context_offsets(context):
    """Return the offsets (rows, columns) of a context of C latents, all causal in raster order."""
    return [(place // WINDOW - 4, place % WINDOW - 4) for place in CONTEXTS[context]]


def wavefront_slope(context):
    """Return the smallest s such that latents of equal column + s × row are independent."""
    return max(columns // -rows + 1 for rows, columns in context_offsets(context) if rows < 0)


@dataclass(frozen=True)
class Layout:
    """Sizes of the codec of one slice.

    Parameters
    ----------
    resolution : int
        Side of the images [px].
    widths : tuple of int
        D1 and D2 of the decoder; a D2 of 0 leaves that layer out.
    context : int
        Latents per context (C): 8, 16, 24 or 32.
    depth : int
        Hidden layers of the entropy network.
    """

    resolution: int
    widths: tuple
    context: int
    depth: int

    @cached_property
    def sides(self):
        """Sides of the latent grids, finest first."""
        return grid_sides(self.resolution)

    @cached_property
    def latents_per_image(self):
        """Number of latents of one image."""
        return sum(side * side for side in self.sides)

    @cached_property
    def entropy_layers(self):
        """Shapes (out, in) of the entropy network's layers; the last returns mean and scale."""
        return [(self.context, self.context)] * self.depth + [(2, self.context)]

    @cached_property
    def decoder_layers(self):
        """Shapes of the decoder's layers: (out, in) of those of one pixel, (3, 3, 3, 3) of two."""
        widths = [len(self.sides), *(width for width in self.widths if width), 3]
        pixelwise = list(zip(widths[1:], widths[:-1], strict=True))
        return pixelwise + [(3, 3, 3, 3)] * 2

    @cached_property
    def shapes(self):
        """Shapes of all parameters, {stream: list of shapes}."""
        entropy, decoder = self.entropy_layers, self.decoder_layers
        return {
            "entropy_weights": entropy,
            "entropy_biases": [(shape[0],) for shape in entropy],
            "upsampling_weights": [(KERNEL, KERNEL)],
            "decoder_weights": decoder,
            "decoder_biases": [(shape[0],) for shape in decoder],
        }

    @cached_property
    def counts(self):
        """Number of parameters, {stream: count}."""
        return {name: sum(map(_size, shapes)) for name, shapes in self.shapes.items()}

    def n_parameters(self, n_images):
        """Return the parameters of a slice: latents and networks, as in P Table A3."""
        return n_images * self.latents_per_image + sum(self.counts.values())


def _size(shape):
    size = 1
    for extent in shape:
        size *= extent
    return size
