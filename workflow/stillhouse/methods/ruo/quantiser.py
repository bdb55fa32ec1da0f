"""Soft rounding with noise, the differentiable stand-in for the rounding of latents.

Agustsson & Theis, "Universally quantized neural compression", NeurIPS 2020; C3 (Kim et al., CVPR
2024), section 3.2; nouise/DD-RUO at f6fc102, core/ts/quantizer.py:19-93, 205-243.
"""

import math

import numpy as np
import torch

from stillhouse.artifacts.rng import generator

# Quantiser input per unit of the stored latents (parameters.py:15).
GAIN = 16.0


def soft_round(x, temperature):
    """Return x rounded softly: floor(x) + tanh((x - floor(x) - 1/2) / t) / (2 tanh(1 / 2t)) + 1/2.

    The identity for large t, rounding for small.

    Parameters
    ----------
    x : float tensor
    temperature : float
        t, more than 0.
    """
    below = x.detach().floor()
    scale = 0.5 / math.tanh(0.5 / temperature)
    return torch.tanh((x - below - 0.5) / temperature) * scale + (below + 0.5)


def noise(count, kind, strength, key):
    """Return noise that replaces rounding in training, (count,) float32, around 0.

    Parameters
    ----------
    count : int
    kind : str
        ``kumaraswamy``: density of (0, 1) with its mode at 1/2, minus 1/2; ``gaussian``.
    strength : float
        a of Kumaraswamy's distribution, at least 1 (uniform); standard deviation.
    key : tuple
        Arguments of `stillhouse.artifacts.rng.generator`.
    """
    rng = generator(*key)
    if kind == "gaussian":
        return torch.from_numpy(rng.standard_normal(count, np.float32) * np.float32(strength))
    a = strength
    b = (2**a * (a - 1) + 1) / a
    uniform = torch.from_numpy(rng.random(count, np.float32))
    return (1 - uniform ** (1 / b)) ** (1 / a) - 0.5


def quantise(latents, temperature, drawn):
    """Return noisy, softly rounded latents: s(s(16 x) + noise), s of `soft_round`.

    Parameters
    ----------
    latents : (n,) float32
    temperature : float
    drawn : (n,) float32
        From `noise`.
    """
    return soft_round(soft_round(latents * GAIN, temperature) + drawn, temperature)


def hard_round(latents):
    """Return the integers of latents, as float32, with zeros for gradients."""
    return torch.round(latents.detach() * GAIN)
