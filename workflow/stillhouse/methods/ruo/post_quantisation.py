"""Post-quantisation: step sizes of a slice's networks, the coarsest within a bound on the images.

Bao et al., "Dataset Distillation as Data Compression", supplement A2, post-quantization;
nouise/DD-RUO at f6fc102, core/ts/quantizemodel.py:233-312: step sizes are powers of two, chosen for
the fewest bits, so that the mean squared error of the images to those of unquantised networks, not
clamped, stays within the bound. The entropy network, which images do not depend on, is chosen by
bits alone. Networks are quantised one after the other: entropy network, decoder, upsampling.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stillhouse.data.bitstream.files import MOST_PARAMETER, best_scale
from stillhouse.data.bitstream.layout import STREAMS
from stillhouse.data.bitstream.networks import MOST_LATENT, Networks
from stillhouse.methods.ruo.quantiser import hard_round

# Largest n of step sizes 2^-n (quantizemodel.py).
FINEST = {
    "entropy_weights": 8,
    "entropy_biases": 16,
    "upsampling_weights": 15,
    "decoder_weights": 15,
    "decoder_biases": 15,
}
# Weight steps that biases are matched with, from the coarsest within the bound on.
TRIED = 2


@dataclass(frozen=True)
class Quantised:
    """A slice with integer latents and networks.

    Parameters
    ----------
    networks : stillhouse.data.bitstream.networks.Networks
    grids : list of (n, side, side) int32 arrays
        Finest first.
    error : float
        Mean squared error of the images to those of unquantised networks.
    bits : dict of str to float
        Estimates: ``latents``, and each stream of parameters.
    """

    networks: Networks
    grids: list
    error: float
    bits: dict


class Quantiser:
    """Search for the step sizes of one slice.

    Parameters
    ----------
    codec : stillhouse.methods.ruo.codec.Codec
    vector : (n,) float32
        Latents and networks.
    """

    @torch.no_grad()
    def __init__(self, codec, vector):
        self.codec = codec
        latents, self.networks = codec.parts(vector)
        self.latents = hard_round(latents).clamp(-MOST_LATENT, MOST_LATENT)
        self.reference = codec.images(self.latents, self.networks)
        self.steps = self._entropy_steps()

    def _entropy_steps(self):
        """Return the step sizes of the entropy network, weights before biases, then again."""
        steps = {"entropy_weights": 6, "entropy_biases": 8}
        for name in (*steps, *steps):
            costs = {n: self._rate({**steps, name: n}) for n in range(FINEST[name] + 1)}
            steps[name] = min(costs, key=costs.get)
        return steps

    def _rate(self, steps):
        """Return the bits of entropy network and latents."""
        return self._latent_bits(steps) + sum(self._bits(name, n) for name, n in steps.items())

    def _latent_bits(self, steps):
        return float(self.codec.bits(self.latents, self._rounded(steps)))

    def _bits(self, name, n):
        return best_scale(self._integers(name, n))[1]

    def _integers(self, name, n):
        """Return the parameters of a stream in steps of 2^-n, (count,) int64."""
        values = torch.cat([part.flatten() for part in self.networks[name]]).double() * 2.0**n
        return values.round().clamp(-MOST_PARAMETER, MOST_PARAMETER).long().cpu().numpy()

    def _rounded(self, steps):
        """Return the networks with the streams of `steps` quantised."""
        networks = dict(self.networks)
        for name, n in steps.items():
            values = torch.from_numpy(self._integers(name, n) / 2.0**n).to(self.latents)
            parts = values.split([part.numel() for part in self.networks[name]])
            shaped = zip(parts, self.networks[name], strict=True)
            networks[name] = [part.view_as(own) for part, own in shaped]
        return networks

    @torch.no_grad()
    def within(self, bound):
        """Return the slice quantised within a bound on the mean squared error of its images.

        With the finest steps where no others are within it.
        """
        steps = dict(self.steps)
        steps |= self._decoder_steps(steps, bound)
        steps["upsampling_weights"] = self._coarsest(steps, "upsampling_weights", bound)
        values = {name: self._integers(name, steps[name]) for name in STREAMS}
        bits = {name: self._bits(name, steps[name]) for name in STREAMS}
        bits["latents"] = self._latent_bits({name: steps[name] for name in self.steps})
        grids = [grid.to(torch.int32).cpu().numpy() for grid in self.codec.grids(self.latents)]
        networks = Networks(self.codec.layout, steps, values)
        return Quantised(networks, grids, self._error(steps), bits)

    def _decoder_steps(self, steps, bound):
        """Return the step sizes of the decoder's weights and biases that take the fewest bits."""
        weights, biases = "decoder_weights", "decoder_biases"
        fine = {**steps, biases: FINEST[biases]}
        first = self._coarsest(fine, weights, bound)
        candidates = []
        for n in range(first, min(first + TRIED, FINEST[weights] + 1)):
            own = {weights: n, biases: self._coarsest({**steps, weights: n}, biases, bound)}
            cost = sum(self._bits(name, number) for name, number in own.items())
            candidates.append((cost, own))
        return min(candidates, key=lambda pair: pair[0])[1]

    def _coarsest(self, steps, name, bound):
        """Return the least n of a stream within the bound, the other streams as in `steps`."""
        for n in range(FINEST[name]):
            if self._error({**steps, name: n}) <= bound:
                return n
        return FINEST[name]

    def _error(self, steps):
        images = self.codec.images(self.latents, self._rounded(steps))
        return float(((images - self.reference) ** 2).mean())


def image_bytes(images):
    """Return images in [0, 1] as the bytes that files decode to, (n, 3, side, side) uint8."""
    return np.clip(np.floor(images.double().cpu().numpy() * 255 + 0.5), 0, 255).astype(np.uint8)
