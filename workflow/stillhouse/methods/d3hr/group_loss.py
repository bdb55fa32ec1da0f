"""Group loss: mismatch of groups of latents to the Gaussian of their class.

Zhao et al., "Taming Diffusion for Dataset Distillation with High Representativeness" (ICML 2025),
D3HR, section 4.4, eq. 5-8; official code lin-zhao-resoLve/D3HR at 8ba351d, group_sampling.py.
"""

import math

import numpy as np
import torch

TERMS = ("mean", "std", "skewness")


def group_loss(latents, mean, std, settings):
    """Return the mismatch of one group of latents to its class's Gaussian (D3HR, eq. 5-8).

    `GroupLoss` computes it for many groups at once, and defines the terms.

    Parameters
    ----------
    latents : (n, d) float64 tensor
    mean, std : (d,) float64 tensor
    settings : dict
        See `GroupLoss`.

    Returns
    -------
    total : scalar tensor
        Weighted sum of the terms.
    terms : dict of str to scalar tensor
        ``mean``, ``std``, ``skewness``, before weighting.
    """
    n, d = latents.shape
    centred = latents - mean
    if settings["std"] == "own":
        stds = latents.std(0) if n > 1 else std
    else:
        stds = centred.square().mean(0).sqrt()
    if settings["skewness"] == "members":
        own = latents.std(0) if n > 1 else torch.zeros_like(std)
        x = torch.where((own > 0) & (std > 0), (latents - latents.mean(0)) / own, 0)
        skewness = _unbiased(d) * x.pow(3).sum(1)
    else:
        x = torch.where(std > 0, centred / std, 0)
        skewness = _unbiased(n) * x.pow(3).sum(0)
    errors = {"mean": latents.mean(0) - mean, "std": stds - std, "skewness": skewness}
    squared = settings["terms"] == "squared"
    terms = {k: e.square().mean() if squared else e.norm() for k, e in errors.items()}
    return sum(settings["loss_weights"][name] * term for name, term in terms.items()), terms


class GroupLoss:
    """Mismatch of groups of latents to the Gaussian of their class (D3HR, eq. 5-8).

    See `group_loss` for the plain formulas of one group. Sums run over the n latents of a group,
    per dimension, with x = (z - μ) / σ and m = Σx / n:

    - mean: σ m
    - std: σ (s - 1); ``std: target``: s² = Σx² / n, about the class mean (eq. 7);
      ``own``: s² = Σ(x - m)² / (n - 1), about the group mean (official code)
    - skewness: ``group``: n / ((n-1)(n-2)) Σx³ in each dimension, about the class mean and
      over the class's std (eq. 8); ``members``: d / ((d-1)(d-2)) Σ((x - m) / s)³ of each latent,
      the sum over its d dimensions, about the group's mean and over its std s, with n - 1, in
      each dimension (official code, lines 170-177)

    A term is the mean of their squares, over dimensions or latents (``terms: squared``), or the
    root of the sum of their squares (``norm``; official code). The paper leaves the reduction open.
    Sum and mean select the same group; with the mean, the scale of the terms does not depend on d.
    Undefined terms are 0: ``own`` std and ``members`` skewness at n = 1, ``group`` skewness at
    n ≤ 2, ``members`` skewness at d ≤ 2, and both in dimensions with σ = 0.

    Parameters
    ----------
    mean, std : (d,) float tensor
        μ and σ, on the device and of the type of the computation.
    ipc : int
        n, latents per group.
    settings : dict
        ``terms``, ``std``, ``skewness``, ``loss_weights`` {mean, std, skewness}.
    all_terms : bool
        Whether to compute also terms of weight 0.
    """

    def __init__(self, mean, std, ipc, settings, all_terms=False):
        self.ipc, self.d = ipc, len(mean)
        self.squared = settings["terms"] == "squared"
        self.own, self.members = settings["std"] == "own", settings["skewness"] == "members"
        self.active = {term for term in TERMS if all_terms or settings["loss_weights"][term]}
        if ipc == 1 and self.own:
            self.active -= {"std"}
        if (min(self.d, ipc + 1) if self.members else ipc) <= 2:
            self.active -= {"skewness"}
        self.weights = [settings["loss_weights"][term] for term in TERMS]
        self.freedom = ipc - self.own
        self.alive = (std > 0).to(std.dtype)
        factors = std**2 / ipc**2, std**2 / max(self.freedom, 1), self.alive * _unbiased(ipc) ** 2
        # From the squared errors of `_fill_errors` to the terms.
        self.factors = torch.stack(factors)[:, None] / (self.d if self.squared else 1)
        self.buffer = self.errors = torch.empty(0)

    def __call__(self, normals, limit=math.inf):
        """Return the losses of standardised groups.

        Parameters
        ----------
        normals : (groups, n, d) tensor
        limit : float
            Since no term is negative, the skewness of members is not computed, and left at 0, for
            groups whose mean and std terms reach this limit.

        Returns
        -------
        (4, groups) array: total, and the three terms before weighting.
        """
        # Two buffers for nearly all computations, since newly allocated memory is slow.
        if self.buffer.shape != normals.shape:
            self.buffer = torch.empty_like(normals)
            self.errors = normals.new_zeros(3, len(normals), self.d)
        self._fill_errors(normals)
        # In NumPy: after the draws the caches are cold, and each small operation of torch then
        # takes twenty microseconds.
        terms = self.errors.square_().mul_(self.factors).sum(2).cpu().numpy()
        if not self.squared:
            np.sqrt(terms, out=terms)
        if "skewness" in self.active and self.members:
            below = np.flatnonzero(self._total(terms) < limit)
            if len(below):
                groups = normals[torch.from_numpy(below).to(normals.device)]
                skewness = self._skewness_of_members(groups, self.buffer[: len(below)])
                terms[2, below] = skewness.cpu().numpy()
        return np.concatenate([self._total(terms)[None], terms])

    def _total(self, terms):
        return sum(weight * term for weight, term in zip(self.weights, terms, strict=True))

    def _fill_errors(self, normals):
        """Compute the errors of each dimension; 0 for inactive terms.

        ``errors``, (3, groups, d): n m, sqrt(n or n - 1) (s - 1) and Σx³.
        """
        means, stds, skewness = self.errors
        if "mean" in self.active or ("std" in self.active and self.own):
            torch.sum(normals, 1, out=means)
        power = torch.mul(normals, normals, out=self.buffer)
        if "std" in self.active:
            torch.sum(power, 1, out=stds)
            if self.own:
                stds.addcmul_(means, means, value=-1 / self.ipc).clamp_(min=0)
            stds.sqrt_().sub_(self.freedom**0.5)
        if "mean" not in self.active:
            means.zero_()
        if "skewness" in self.active and not self.members:
            torch.sum(power.mul_(normals), 1, out=skewness)

    def _skewness_of_members(self, normals, buffer):
        """Return the term for the skewness of each member of the groups, (groups,).

        Standardised by the group in each dimension, so that the class's mean and std cancel.
        Changes `normals`.
        """
        normals -= normals.mean(1, keepdim=True)
        power = torch.mul(normals, normals, out=buffer)
        # Avoids 0 / 0 for dimensions without spread.
        variance = power.sum(1).div_(self.ipc - 1).clamp_(min=torch.finfo(power.dtype).tiny ** 0.5)
        scale = self.alive * variance**-1.5
        cubes = torch.bmm(power.mul_(normals), scale[:, :, None])[:, :, 0]
        squares = cubes.mul_(_unbiased(self.d)).square_()
        return squares.mean(1) if self.squared else squares.sum(1).sqrt_()


def _unbiased(n):
    """Return the factor from a sum of n cubes to an unbiased skewness; 0 if undefined."""
    return n / ((n - 1) * (n - 2)) if n > 2 else 0.0
