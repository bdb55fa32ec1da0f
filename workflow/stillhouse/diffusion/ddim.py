"""DDIM loops over a denoiser: up to a noise level (inversion) and down from one (sampling).

Song et al., "Denoising Diffusion Implicit Models" (ICLR 2021); guidance of Ho and Salimans,
"Classifier-Free Diffusion Guidance" (2022). How D3HR (Zhao et al., 2025) uses both: "clean" and
"aligned" are what its paper and diffusers say, "zero" and "next" what its official code does
(lin-zhao-resoLve/D3HR at 8ba351d, generation/).
"""

import torch

from stillhouse.diffusion.noise_schedule import CLEAN
from stillhouse.errors import StillhouseError


def guided(denoiser, latents, timestep, condition, guidance):
    """Return the noise in `latents` as the denoiser sees it, drawn towards the condition.

    Parameters
    ----------
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    latents : (n, channels, h, w) float32
    timestep : int
        Level that the network is told.
    condition : (1, ...) or (n, ...) tensor
        From ``denoiser.condition``.
    guidance : float
        1: the condition as it is, without a null pass.

    Returns
    -------
    (n, channels, h, w) float32

    Notes
    -----
    ε = ε_null + guidance (ε_condition - ε_null), from one batch of 2n.
    """
    n = len(latents)
    condition = condition.expand(n, *condition.shape[1:])
    if guidance == 1:
        return denoiser.predict(latents, timestep, condition)
    null = denoiser.null.expand(n, *denoiser.null.shape[1:])
    both = torch.cat([latents, latents]), timestep, torch.cat([condition, null])
    conditional, unconditional = denoiser.predict(*both).chunk(2)
    return torch.lerp(unconditional, conditional, guidance)


def invert(denoiser, latents, condition, guidance, steps, snapshots, start="clean"):
    """Bring clean latents up to noise levels, so that `sample` would bring them back.

    Parameters
    ----------
    denoiser, condition, guidance
        As for `guided`.
    latents : (n, channels, h, w) float32
    steps : int
        Levels of the whole grid.
    snapshots : list of int
        How many levels of the grid to climb: K is level ``grid[K - 1]`` (31 of 50: t = 600).
    start : str
        ``clean``: the first step goes from no noise to level 0, so K calls of the network reach
        snapshot K. ``zero``: the clean latents pass for ones at level 0; K - 1 calls.

    Returns
    -------
    dict of int to (n, channels, h, w) float32
        By snapshot.

    Notes
    -----
    The network is asked at the level that a step goes to, about latents of the level below, as in
    diffusers' DDIMInverseScheduler; of a v-prediction diffusers takes the noise by the level
    below, we by the level that the network was told.
    """
    levels = _levels(denoiser, steps, max(snapshots))
    at, found = (CLEAN if start == "clean" else levels[0]), {}
    for count, level in enumerate(levels, 1):
        if level != at:
            noise = guided(denoiser, latents, level, condition, guidance)
            latents = denoiser.schedule.move(latents, noise, at, level)
            at = level
        if count in snapshots:
            found[count] = latents
    return found


def sample(denoiser, latents, condition, guidance, steps, count, start="aligned"):
    """Bring latents of level ``grid[count - 1]`` down to clean ones.

    Parameters
    ----------
    denoiser, latents, condition, guidance, steps
        As for `invert`.
    count : int
        Levels of the grid that the latents are up.
    start : str
        ``aligned``: the network is asked at the level of the latents first; `count` calls.
        ``next``: one level of the grid higher, for which the latents have too little noise, and
        the last step ends at level 1; count + 1 calls.

    Returns
    -------
    (n, channels, h, w) float32
    """
    if start == "aligned":
        levels = _levels(denoiser, steps, count)[::-1]
        return denoise(denoiser, latents, condition, guidance, levels)
    # paper: sampling starts where inversion ended; here, where asked for: as in the official code,
    # which pairs the snapshot of t = 600 with a first call at 620 and never goes below level 1.
    levels = _levels(denoiser, steps, count + 1)[::-1]
    apart = levels[-2] - levels[-1]
    targets = [max(1, level - apart) for level in levels]
    return denoise(denoiser, latents, condition, guidance, levels, targets)


def _levels(denoiser, steps, count):
    """Return the lowest `count` levels of a grid."""
    if count > steps:
        raise StillhouseError(
            f"level {count} of a grid of {steps} steps; should be {steps} or less"
        )
    return denoiser.schedule.grid(steps)[:count]


def denoise(denoiser, latents, condition, guidance, timesteps, targets=None):
    """Ask the network at each of `timesteps` and step from there to its target.

    Parameters
    ----------
    denoiser, latents, condition, guidance
        As for `guided`.
    timesteps : list of int
        Levels, falling. None: the latents come back as they are.
    targets : list of int, optional
        Level after each step; by default the next of `timesteps`, and at last no noise.

    Returns
    -------
    (n, channels, h, w) float32
    """
    targets = [*timesteps, CLEAN][1:] if targets is None else targets
    for level, target in zip(timesteps, targets, strict=True):
        noise = guided(denoiser, latents, level, condition, guidance)
        latents = denoiser.schedule.move(latents, noise, level, target)
    return latents
