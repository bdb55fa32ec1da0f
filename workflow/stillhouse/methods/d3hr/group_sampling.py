"""Group sampling: the best of many random groups of latents of a class's Gaussian.

Zhao et al., "Taming Diffusion for Dataset Distillation with High Representativeness" (ICML 2025),
D3HR, section 4.4, eq. 5-9; official code lin-zhao-resoLve/D3HR at 8ba351d, group_sampling.py.

Groups are drawn, scored and forgotten in standardised space, x = (z - μ) / σ, where a latent is n
standard normals; the winner is drawn again from its number.
"""

import math

import numpy as np
import torch

from stillhouse.artifacts.progress import track
from stillhouse.rng import key

TERMS = ("mean", "std", "skewness")
# Normals drawn at once: what a core's cache holds, or keeps a GPU busy (256 MB). A candidate's
# numbers depend on it, so a change is a new version of the stage.
CHUNK = {"cpu": 2**19, "cuda": 2**26}


class GroupLoss:
    """Mismatch of groups of latents to the Gaussian of their class (D3HR, eq. 5-8).

    Sums run over the n latents of a group, per dimension, with x = (z - μ) / σ and m = Σx / n:

    - mean: σ m
    - std: σ (s - 1); ``std: target`` has s² = Σx² / n, about the class mean (eq. 7);
      ``own`` has s² = Σ(x - m)² / (n - 1), about the group's own (official code)
    - skewness: ``group`` has n / ((n-1)(n-2)) Σx³ in each dimension, about the class mean and
      over the class's std (eq. 8); ``latent`` has the skewness of each latent across its d
      dimensions, about its own mean and std (official code)

    A term is the mean of these squared, over dimensions or latents (``terms: squared``; the paper
    leaves the reduction open: sum and mean choose the same group, and the mean keeps the terms on
    one scale whatever d), or the root of their sum (``norm``; official code). What is undefined
    counts 0: ``own`` std at n = 1, ``group`` skewness at n ≤ 2 and in dimensions with σ = 0.

    Parameters
    ----------
    mean, std : (d,) float tensor
        μ and σ, on the device and of the type to compute with.
    ipc : int
        n, latents a group.
    settings : dict
        ``terms``, ``std``, ``skewness``, ``weights`` {mean, std, skewness}.
    every : bool
        Compute terms of weight 0 too.
    """

    def __init__(self, mean, std, ipc, settings, every=False):
        self.ipc, self.d = ipc, len(mean)
        self.squared = settings["terms"] == "squared"
        self.own, self.latent = settings["std"] == "own", settings["skewness"] == "latent"
        self.wanted = {term for term in TERMS if every or settings["weights"][term]}
        if ipc == 1 and self.own:
            self.wanted -= {"std"}
        if (self.d if self.latent else ipc) <= 2:
            self.wanted -= {"skewness"}
        self.weights = [settings["weights"][term] for term in TERMS]
        self.freedom = ipc - self.own
        alive = (std > 0).to(std.dtype)
        factors = std**2 / ipc**2, std**2 / max(self.freedom, 1), alive * _factor(ipc) ** 2
        # What the squared errors of `_fill_errors` are worth.
        self.factors = torch.stack(factors)[:, None] / (self.d if self.squared else 1)
        # Skewness does not see where zero is: near the middle, sums of powers cancel least.
        offset = mean - mean.mean()
        self.offsets = torch.stack([offset, offset**2, offset**3]).double().sum(1)
        # z = offset + σx: what x, x² and x³ give to z, z² and z³.
        self.mixtures = (
            torch.stack([std, 2 * offset * std, 3 * offset**2 * std]),
            torch.stack([std**2, 3 * offset * std**2]),
            torch.stack([std**3]),
        )
        self.room = self.errors = torch.empty(0)

    def __call__(self, normals, limit=math.inf):
        """Score standardised groups.

        Parameters
        ----------
        normals : (groups, n, d) tensor
        limit : float
            No term is negative: a group whose mean and std alone cost as much as this is out, and
            the skewness of its latents is left at 0.

        Returns
        -------
        (4, groups) array: total, and the three terms before weighting.
        """
        # Memory new to a process is slow: two buffers are kept, and nearly all is done in them.
        if self.room.shape != normals.shape:
            self.room = torch.empty_like(normals)
            self.errors = normals.new_zeros(3, len(normals), self.d)
        self._fill_errors(normals)
        # NumPy's, because drawing has emptied the caches, and cold small operations of torch take
        # twenty microseconds each.
        terms = self.errors.square_().mul_(self.factors).sum(2).cpu().numpy()
        if not self.squared:
            np.sqrt(terms, out=terms)
        if "skewness" in self.wanted and self.latent:
            able = np.flatnonzero(self._total(terms) < limit)
            if len(able):
                some = normals[torch.from_numpy(able).to(normals.device)]
                terms[2, able] = self._latent_term(some, self.room[: len(able)]).cpu().numpy()
        return np.concatenate([self._total(terms)[None], terms])

    def _total(self, terms):
        return sum(weight * term for weight, term in zip(self.weights, terms, strict=True))

    def _fill_errors(self, normals):
        """Fill in the errors of each dimension; 0 where not wanted.

        ``errors``, (3, groups, d): n m, sqrt(n or n - 1) (s - 1) and Σx³.
        """
        means, stds, skewness = self.errors
        if "mean" in self.wanted or ("std" in self.wanted and self.own):
            torch.sum(normals, 1, out=means)
        power = torch.mul(normals, normals, out=self.room)
        if "std" in self.wanted:
            torch.sum(power, 1, out=stds)
            if self.own:
                stds.addcmul_(means, means, value=-1 / self.ipc).clamp_(min=0)
            stds.sqrt_().sub_(self.freedom**0.5)
        if "mean" not in self.wanted:
            means.zero_()
        if "skewness" in self.wanted and not self.latent:
            torch.sum(power.mul_(normals), 1, out=skewness)

    def _latent_term(self, normals, room):
        """Return the term for the skewness of each latent across its dimensions, (groups,)."""
        latents = normals.flatten(0, 1).T
        power = torch.mul(normals, normals, out=room).flatten(0, 1).T
        of_one, of_two, of_three = self.mixtures
        # The long side last: BLAS is five times as fast as with (latents, d) @ (d, 3).
        sums = (of_one @ latents).double() + self.offsets[:, None]
        sums[1:] += of_two @ power
        sums[2:] += of_three @ power.mul_(latents)
        one, two, three = sums / self.d
        # The cube of a spread of zero would divide zero by zero.
        variance = ((two - one**2) * self.d / (self.d - 1)).clamp_(min=1e-30)
        cubes = self.d * (three - 3 * one * two + 2 * one**3)
        squares = (_factor(self.d) * cubes / variance**1.5).square_().view(-1, self.ipc)
        term = squares.mean(1) if self.squared else squares.sum(1).sqrt_()
        return term.to(normals.dtype)


def _factor(n):
    """Return what makes a sum of cubes of n values an unbiased skewness; 0 where there is none."""
    return n / ((n - 1) * (n - 2)) if n > 2 else 0.0


def whiten(normals, own, room=None):
    """Give each group, (groups, n, d), mean 0 and std 1 in every dimension, in place.

    Parameters
    ----------
    normals : (groups, n, d) float tensor
        n ≥ 2. A dimension in which all n are equal becomes 0.
    own : bool
        The std that is made 1 divides by n - 1, as `GroupLoss` measures it with ``std: own``;
        otherwise by n.
    room : tensor, optional
        Of the same shape, to compute in: memory new to a process is slow.
    """
    n = normals.shape[1]
    normals -= normals.mean(1, keepdim=True)
    spread = torch.mul(normals, normals, out=room).sum(1, keepdim=True).div_(n - own).sqrt_()
    normals *= spread.clamp_(min=100 * torch.finfo(normals.dtype).eps).reciprocal_()


class Candidates:
    """Random groups in chunks: the numbers of chunk k depend on k and on no other chunk.

    So more candidates extend fewer ones, and a winner is found again by its number.

    Parameters
    ----------
    seed, class_id
        Address of the random numbers; the chunk is the item.
    ipc, d : int
        Latents a group; their dimensions.
    device : torch.device
        Where to draw. torch's generator, because it fills a buffer three times as fast as NumPy's;
        a CPU's and a GPU's numbers differ.
    """

    def __init__(self, seed, class_id, ipc, d, device):
        self.address = seed, "groups", class_id
        self.size = max(CHUNK[device.type] // (ipc * d), 1)
        self.normals = torch.empty(self.size, ipc, d, device=device)
        self.generator = torch.Generator(device)

    def chunk(self, number):
        """Return standard normals, (size, ipc, d) float32, to be used before the next call."""
        # A CPU's generator looks at 32 bits of it. Of 83,000 chunks (m = 1e6, IPC 10, d = 4096) one
        # pair is then expected to be the same, which costs nothing but its time.
        self.generator.manual_seed(key(*self.address, number) % 2**63)
        return self.normals.normal_(generator=self.generator)

    def one(self, number):
        """Return candidate `number` alone, (1, ipc, d) float64."""
        chunk, place = divmod(number, self.size)
        return self.chunk(chunk)[place, None].double()


def search(mean, variance, ipc, settings, seed, class_id, device, side=None):
    """Return the group of latents nearest to the Gaussian of its class (D3HR, eq. 9).

    ``sampler: search`` scores `candidates` random groups. ``exact`` whitens each, so that mean and
    std are those of the class by construction and only the skewness is left to choose by; a single
    latent would become the class mean, which lies off the shell where a Gaussian's samples are, so
    at IPC 1 ``exact`` is ``search``.

    Parameters
    ----------
    mean, variance : (d,) float tensor
        Of the inverted latents of the class.
    ipc : int
        n, latents to return.
    settings : dict
        ``sampler``, ``candidates``, ``variance`` (factor on the variance, of the draws and of the
        target), and those of `GroupLoss`.
    seed, class_id
        Address of the random numbers.
    device : torch.device
        Where to draw and score. The chosen group differs between a CPU and a GPU.
    side : stillhouse.training.loop.SideFile, optional
        Lets a later job go on after a chunk.

    Returns
    -------
    latents : (n, d) float32 tensor
    winner : int
        Number of the candidate; of those that tie, the first.
    losses : (4,) float32 tensor
        Of the winner: total, mean, std and skewness term; terms are given before weighting, those
        of weight 0 too.
    first : (4,) float32 tensor
        The same of candidate 0, not whitened: a random group.
    """
    mean = mean.double().to(device)
    # paper: "the variance of the distribution is adjusted in sampling"; here: the target's too,
    # because a group of another variance would otherwise be chosen to look like the old one.
    std = (variance.double().to(device) * settings["variance"]).sqrt()
    exact = settings["sampler"] == "exact" and ipc > 1
    candidates = Candidates(seed, class_id, ipc, len(mean), device)
    winner = _winner(mean, std, candidates, settings, exact, ipc, class_id, side)
    loss = GroupLoss(mean, std, ipc, settings, every=True)
    first = loss(candidates.one(0))
    group = candidates.one(winner)
    if exact:
        whiten(group, loss.own)
    latents = (mean + std * group[0]).float().cpu()
    losses, first = (torch.from_numpy(one[:, 0]).float() for one in (loss(group), first))
    return latents, winner, losses, first


def _winner(mean, std, candidates, settings, exact, ipc, class_id, side):
    """Return the number of the candidate with the lowest total loss."""
    loss = GroupLoss(mean.float(), std.float(), ipc, settings)
    if exact:
        loss.wanted &= {"skewness"}
    count = settings["candidates"] if loss.wanted else 1
    room = torch.empty_like(candidates.normals) if exact else None
    n_chunks, size = math.ceil(count / candidates.size), candidates.size
    first, lowest, winner = 0, math.inf, 0
    stored = side.load() if side else None
    if stored is not None:
        first, lowest, winner = (stored[1][name] for name in ("done", "lowest", "winner"))
        print(f"{class_id}: continues after chunk {first}", flush=True)
    left = range(first, n_chunks)
    for number in track(left, len(left), f"{class_id}: chunks of {size} groups"):
        normals = candidates.chunk(number)
        if exact:
            whiten(normals, loss.own, room)
        totals = loss(normals, lowest)[0, : count - number * size]
        place = int(totals.argmin())
        if totals[place] < lowest:
            lowest, winner = float(totals[place]), number * size + place
        if side and side.due():
            side.save({}, {"done": number + 1, "lowest": lowest, "winner": winner})
    return winner
