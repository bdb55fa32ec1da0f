"""DDIM loops over a denoiser: up to a noise level (inversion) and down from one (sampling).

Song et al., "Denoising Diffusion Implicit Models" (ICLR 2021); guidance of Ho and Salimans,
"Classifier-Free Diffusion Guidance" (2022). Variants of D3HR (Zhao et al., 2025): "clean" and
"aligned" are those of its paper and of diffusers, "zero" and "next" those of its official code
(lin-zhao-resoLve/D3HR at 8ba351d, generation/).
"""

import torch

from stillhouse.diffusion.noise_schedule import CLEAN
from stillhouse.errors import StillhouseError


def guided(denoiser, latents, timestep, condition, guidance):
    """Return the noise that the denoiser predicts in `latents`, with classifier-free guidance.

    Parameters
    ----------
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    latents : (n, channels, h, w) float32
    timestep : int
        Level that the network is conditioned on.
    condition : (1, ...) or (n, ...) tensor
        From ``denoiser.condition``.
    guidance : float
        1 disables it: no unconditional pass.

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
    pairs, conditions = torch.cat([latents, latents]), torch.cat([condition, null])
    conditional, unconditional = denoiser.predict(pairs, timestep, conditions).chunk(2)
    return torch.lerp(unconditional, conditional, guidance)


def pass_size(guidance, batch_size):
    """Return the latents per forward pass, which guidance passes twice, as one batch."""
    return batch_size if guidance == 1 else max(batch_size // 2, 1)


def invert(denoiser, latents, condition, guidance, steps, snapshots, start="clean"):
    """Invert clean latents to noise levels, so that `sample` recovers them.

    Parameters
    ----------
    denoiser, condition, guidance
        As for `guided`.
    latents : (n, channels, h, w) float32
    steps : int
        Levels of the complete grid.
    snapshots : list of int
        Numbers of inversion steps: K is level ``grid[K - 1]`` (31 of 50: t = 600).
    start : str
        ``clean``: the first step goes from no noise to level 0, so snapshot K takes K calls of the
        network. ``zero``: the clean latents are assumed to be at level 0; K - 1 calls.

    Returns
    -------
    dict of int to (n, channels, h, w) float32
        By snapshot.

    Notes
    -----
    The network is evaluated at the target level of a step on latents of the level below, as in
    diffusers' DDIMInverseScheduler. For a v-prediction, diffusers computes the noise at the level
    below; here, it is computed at the level that the network is conditioned on.
    """
    levels = _levels(denoiser, steps, max(snapshots))
    at, by_snapshot = (CLEAN if start == "clean" else levels[0]), {}
    for count, level in enumerate(levels, 1):
        if level != at:
            noise = guided(denoiser, latents, level, condition, guidance)
            latents = denoiser.schedule.move(latents, noise, at, level)
            at = level
        if count in snapshots:
            by_snapshot[count] = latents
    return by_snapshot


def sample(denoiser, latents, condition, guidance, steps, count, start="aligned"):
    """Denoise latents of level ``grid[count - 1]``.

    Parameters
    ----------
    denoiser, latents, condition, guidance, steps
        As for `invert`.
    count : int
        Denoising steps of the grid.
    start : str
        ``aligned``: the first call of the network is at the level of the latents; `count` calls.
        ``next``: at the next higher level of the grid, for which the latents have too little noise,
        and the last step ends at level 1; count + 1 calls.

    Returns
    -------
    (n, channels, h, w) float32
    """
    if start == "aligned":
        levels = _levels(denoiser, steps, count)[::-1]
        return denoise(denoiser, latents, condition, guidance=guidance, timesteps=levels)
    # paper: sampling starts at the level of the inverted latents; here, optionally: as in the
    # official code, which pairs the snapshot of t = 600 with a first call at 620 and a last level
    # of 1.
    levels = _levels(denoiser, steps, count + 1)[::-1]
    apart = levels[-2] - levels[-1]
    targets = [max(1, level - apart) for level in levels]
    return denoise(
        denoiser, latents, condition, guidance=guidance, timesteps=levels, targets=targets
    )


def _levels(denoiser, steps, count):
    """Return the lowest `count` levels of a grid."""
    if count > steps:
        raise StillhouseError(
            f"level {count}: outside the grid of {steps} steps; must be at most {steps}"
        )
    return denoiser.schedule.grid(steps)[:count]


def denoise(denoiser, latents, condition, guidance, timesteps, targets=None):
    """Evaluate the network at each of `timesteps` and step from there to its target.

    Parameters
    ----------
    denoiser, latents, condition, guidance
        As for `guided`.
    timesteps : list of int
        Levels, descending. If empty, the latents are returned unchanged.
    targets : list of int, optional
        Level after each step; by default the next of `timesteps`, and no noise after the last.

    Returns
    -------
    (n, channels, h, w) float32
    """
    targets = [*timesteps, CLEAN][1:] if targets is None else targets
    for level, target in zip(timesteps, targets, strict=True):
        noise = guided(denoiser, latents, level, condition, guidance)
        latents = denoiser.schedule.move(latents, noise, level, target)
    return latents
