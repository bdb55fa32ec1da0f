"""Group sampling: the best of many random groups of latents from a class's Gaussian.

Zhao et al., "Taming Diffusion for Dataset Distillation with High Representativeness" (ICML 2025),
D3HR, section 4.4, eq. 5-9; official code lin-zhao-resoLve/D3HR at 8ba351d, group_sampling.py.

Groups are drawn, scored and discarded in standardised space, x = (z - μ) / σ, where latents are
standard normals. The selected group is drawn again from its number.
"""

import math

import torch

from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import key
from stillhouse.methods.d3hr.group_loss import GroupLoss

# Normals per draw: the size of a core's cache, or enough to occupy a GPU (256 MB). Candidates
# depend on it, so a change requires a new version of the stage.
CHUNK = {"cpu": 2**19, "cuda": 2**26}


def whiten(normals, own, buffer=None):
    """Scale each group to mean 0 and std 1 in every dimension, in place.

    Parameters
    ----------
    normals : (groups, n, d) float tensor
        n ≥ 2. Dimensions without spread become 0.
    own : bool
        Whether the std divides by n - 1, as `GroupLoss` with ``std: own``; otherwise by n.
    buffer : tensor, optional
        Of the same shape, for the computation, since newly allocated memory is slow.
    """
    n = normals.shape[1]
    normals -= normals.mean(1, keepdim=True)
    spread = torch.mul(normals, normals, out=buffer).sum(1, keepdim=True).div_(n - own).sqrt_()
    normals *= spread.clamp_(min=100 * torch.finfo(normals.dtype).eps).reciprocal_()


class Candidates:
    """Random groups in chunks, whose numbers depend on the number of the chunk alone.

    More candidates therefore extend fewer ones, and a selected one is drawn again by its number.

    Parameters
    ----------
    seed, class_id
        Address of the random numbers; the chunk is the item.
    ipc, d : int
        Latents per group; their dimensions.
    device : torch.device
        Device of the draws, by torch's generator, which fills a buffer three times as fast as
        NumPy's. Numbers of a CPU and of a GPU differ.
    """

    def __init__(self, seed, class_id, ipc, d, device):
        self.address = seed, "groups", class_id
        self.size = max(CHUNK[device.type] // (ipc * d), 1)
        self.normals = torch.empty(self.size, ipc, d, device=device)
        self.generator = torch.Generator(device)

    def chunk(self, number):
        """Return standard normals, (size, ipc, d) float32, in a buffer of the next call too."""
        # A CPU's generator uses 32 bits of the seed. Among 83,000 chunks (m = 1e6, IPC 10,
        # d = 4096), one pair is then expected to be equal, which only costs time.
        self.generator.manual_seed(key(*self.address, number) % 2**63)
        return self.normals.normal_(generator=self.generator)

    def candidate(self, number):
        """Return a single candidate by its number, (1, ipc, d) float64."""
        chunk, place = divmod(number, self.size)
        return self.chunk(chunk)[place, None].double()


def search(mean, variance, ipc, settings, address, device, checkpoint=None):
    """Return the group of latents nearest to the Gaussian of its class (D3HR, eq. 9).

    ``sampler: search`` scores `candidates` random groups. ``exact`` whitens each group, so that
    mean and std equal those of the class and only the skewness differs between groups. At IPC 1 it
    equals ``search``: a whitened single latent would be the class mean, which is far from the shell
    of a Gaussian's samples.

    Parameters
    ----------
    mean, variance : (d,) float tensor
        Of the inverted latents of the class.
    ipc : int
        n, latents per group.
    settings : dict
        ``sampler``, ``candidates``, ``variance`` (factor on the variance of the draws and of the
        target), and the settings of `GroupLoss`.
    address : (int, str)
        Seed and class id of the random numbers.
    device : torch.device
        Device of draws and losses. The selected group differs between a CPU and a GPU.
    checkpoint : stillhouse.artifacts.checkpoints.Checkpoint, optional
        For a later job that resumes after a chunk.

    Returns
    -------
    latents : (n, d) float32 tensor
    winner : int
        Number of the selected candidate; the first of a tie.
    losses : (4,) float32 tensor
        Total, mean, std and skewness term of the winner; terms before weighting, including those of
        weight 0.
    first : (4,) float32 tensor
        The losses of candidate 0, not whitened: a random group.
    """
    mean = mean.double().to(device)
    # paper: "the variance of the distribution is adjusted in sampling"; here: also that of the
    # target, because otherwise groups of another variance would be selected to match the original.
    std = (variance.double().to(device) * settings["variance"]).sqrt()
    exact = settings["sampler"] == "exact" and ipc > 1
    candidates = Candidates(*address, ipc, len(mean), device)
    loss = GroupLoss(mean.float(), std.float(), ipc, settings)
    if exact:
        loss.active &= {"skewness"}
    count = settings["candidates"] if loss.active else 1
    winner = _winner(candidates, count, loss, exact, checkpoint)
    loss = GroupLoss(mean, std, ipc, settings, all_terms=True)
    first = loss(candidates.candidate(0))
    group = candidates.candidate(winner)
    if exact:
        whiten(group, loss.own)
    latents = (mean + std * group[0]).float().cpu()
    losses, first = (torch.from_numpy(values[:, 0]).float() for values in (loss(group), first))
    return latents, winner, losses, first


def _winner(candidates, count, loss, exact, checkpoint):
    """Return the number of the candidate with the lowest total loss, among the first `count`."""
    class_id, size = candidates.address[2], candidates.size
    buffer = torch.empty_like(candidates.normals) if exact else None
    first, lowest, winner = 0, math.inf, 0
    stored = checkpoint.resume(class_id, "chunk") if checkpoint else None
    if stored is not None:
        first, lowest, winner = (stored[1][name] for name in ("done", "lowest", "winner"))
    numbers = range(first, math.ceil(count / size))
    for number in track(numbers, len(numbers), f"{class_id}: chunks of {size} groups"):
        normals = candidates.chunk(number)
        if exact:
            whiten(normals, loss.own, buffer)
        totals = loss(normals, lowest)[0, : count - number * size]
        place = int(totals.argmin())
        if totals[place] < lowest:
            lowest, winner = float(totals[place]), number * size + place
        if checkpoint and checkpoint.due():
            checkpoint.save({}, {"done": number + 1, "lowest": lowest, "winner": winner})
    return winner
