"""The loops of a denoiser against the bare forward passes that they need.

A DiT as small as the one of the embedded default, on a CPU.
"""

import pipelines
import torch
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.diffusion.ddim import invert, sample
from stillhouse.diffusion.denoisers import load_denoiser
from timing import paired

N, STEPS, COUNT, GUIDANCE = 64, 50, 31, 1.5


def loops(folder):
    """Return the ratios of inversion and of sampling to their forward passes."""
    path, roots = pipelines.denoiser(
        pipelines.tiny_dit(folder / "dit", layers=3, heads=4, width=32), "dit", folder / "artifact"
    )
    denoiser = load_denoiser(path, {"precision": "float32"}, Context(weight_folders=roots))
    draws = generator(0, "bench").standard_normal((N, 4, 4, 4), dtype="float32")
    latents, condition = torch.from_numpy(draws), denoiser.condition("1")
    both = torch.cat([latents, latents])
    labels = torch.cat([condition.expand(N), denoiser.null.expand(N)])
    network, levels = denoiser.network, denoiser.schedule.grid(STEPS)[:COUNT]

    @torch.no_grad()
    def bare():
        for level in levels:
            network(both, timestep=torch.full((2 * N,), level), class_labels=labels)

    def up():
        invert(denoiser, latents, condition, GUIDANCE, STEPS, [COUNT])

    def down():
        sample(denoiser, latents, condition, GUIDANCE, STEPS, COUNT)

    return paired(up, bare, 7), paired(down, bare, 7)
