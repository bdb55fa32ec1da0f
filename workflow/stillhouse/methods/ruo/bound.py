"""Choice of the bound of post-quantisation by rate and utility on held-out training images."""

import torch

from stillhouse.artifacts.progress import track
from stillhouse.methods.ruo.bitstream import slice_vector
from stillhouse.methods.ruo.codec import Codec
from stillhouse.methods.ruo.compression import slice_layout
from stillhouse.methods.ruo.images import warmup_spec
from stillhouse.methods.ruo.post_quantisation import Quantiser
from stillhouse.methods.ruo.rate_utility import learned_parts, set_labels, training_utility
from stillhouse.methods.ruo.slices import set_slices

# The utility is a mean over iterations, numbered from one that no optimisation reaches.
REPEATS, FIRST = 8, 10**9


def bound(inputs, spec, context):
    """Stage: choose the bound on the error that the quantisation of networks adds to images.

    ``bound.json`` has the chosen ``bound``, and of each candidate the ``utility`` on held-out
    images, ``bits_per_pixel`` with networks, and ``loss``, λ × utility + Σ over slices of bits per
    pixel. The least loss is chosen; of equals the larger bound.
    """
    settings, warmup = spec["settings"], warmup_spec(spec)
    device, labels = context.torch_device(), set_labels(warmup)
    utility = training_utility(inputs, spec, context, held_out=True)
    utility.learning_rate = learned_parts(inputs, spec, context).learning_rate
    state = utility.state()

    def make(member, context):
        layout, bounds = slice_layout(warmup["settings"]), sorted(settings["bounds"])[::-1]
        images, pixels = {value: [] for value in bounds}, 0
        rates, bits = dict.fromkeys(bounds, 0.0), dict.fromkeys(bounds, 0.0)
        parts = list(enumerate(set_slices(warmup["settings"], warmup["keys"])))
        for number, own in track(parts, len(parts), "slices"):
            codec = Codec(layout, own.n_images)
            quantiser = Quantiser(codec, slice_vector(inputs, number, device))
            pixels += codec.n_pixels
            for limit in bounds:
                quantised = quantiser.within(limit)
                images[limit].append(torch.from_numpy(quantised.networks.images(quantised.grids)))
                total = sum(quantised.bits.values())
                rates[limit] += total / codec.n_pixels
                bits[limit] += total
        candidates = []
        for limit in bounds:
            value = held_out_utility(utility, state, torch.cat(images[limit]).to(device), labels)
            candidates.append(
                {
                    "bound": limit,
                    "utility": value,
                    "bits_per_pixel": bits[limit] / pixels,
                    "loss": settings["lambda"] * value + rates[limit],
                }
            )
        best = min(candidates, key=lambda one: one["loss"])
        return {"bound.json": {"bound": best["bound"], "candidates": candidates}}

    return make


def held_out_utility(utility, state, pixels, labels):
    """Return the mean utility of images over `REPEATS` iterations, the same for all candidates.

    Parameters
    ----------
    utility : stillhouse.methods.common.utilities.base.Utility
    state : dict
        That it is restored to before.
    pixels : (n, 3, side, side) uint8 tensor
    labels : (n,) int64 tensor
    """
    utility.restore(state)
    images, labels = pixels.float() / 255, labels.to(pixels.device)
    return sum(utility(images, labels, FIRST + i)[0] for i in range(REPEATS)) / REPEATS
