"""Cost formulas of compression and of rate-utility optimisation."""

from stillhouse.artifacts.stages import Work
from stillhouse.data.bitstream.layout import DECODERS
from stillhouse.methods.common.utilities.work import updates

# Of an update of a slice per pixel, forward and backward: operations on single numbers, measured as
# multiply-adds on a CPU (docs/scale.md), and those of the decoder per hidden unit.
PER_PIXEL, PER_UNIT = 20e3, 30
# Bytes of the tensors of an update per pixel, of at most so many pixels at once.
PIXEL_BYTES, MOST_PIXELS = 800, 2**21
# Bytes of the stored latents per pixel.
STORED_BYTES = 8
# Updates that the search of step sizes of a bitstream is as long as; an assumption.
SEARCH = 300


def compression(artifact, sizes):
    """A slice takes its restarts and their continuation."""
    warmup, pixels = artifact.settings["warmup"], _pixels(artifact, sizes)
    count = warmup["restarts"] * warmup["iterations"]
    count += warmup["finalists"] * warmup["final_iterations"]
    return Work(
        multiply_adds=count * pixels * _per_pixel(artifact),
        steps=count,
        activation_bytes=PIXEL_BYTES * min(pixels, MOST_PIXELS),
        stored_bytes=STORED_BYTES * pixels,
    )


def rate_utility(artifact, sizes):
    """All slices of a set are updated in every iteration."""
    first = artifact.upstream["compression"]
    pixels = _pixels(first, sizes) * first.n_members
    count, work = artifact.settings["joint"]["iterations"], pixels * _per_pixel(first)
    return updates(artifact, sizes, count, work, stored_bytes=STORED_BYTES * pixels)


def bound(artifact, sizes):
    """The networks of all slices are quantised within each bound."""
    first = _compression(artifact)
    pixels = _pixels(first, sizes) * first.n_members
    count = SEARCH * len(artifact.settings["bounds"])
    return Work(multiply_adds=count * pixels * _per_pixel(first))


def bitstream(artifact, sizes):
    """The networks of a slice are quantised, and all its numbers coded."""
    first = _compression(artifact)
    pixels = _pixels(first, sizes)
    return Work(multiply_adds=SEARCH * pixels * _per_pixel(first), stored_bytes=pixels)


def _compression(artifact):
    """Return the warm-up that an artifact of optimised or merely compressed images begins with."""
    state = artifact.upstream.get("state", artifact)
    return state.upstream["compression"]


def _per_pixel(compression):
    return PER_PIXEL + PER_UNIT * sum(DECODERS[compression.settings["decoder"]])


def _pixels(compression, sizes):
    """Return the pixels of a slice."""
    pixels = sizes.n_images(compression) * compression.settings["resolution"] ** 2
    return pixels / compression.n_members
