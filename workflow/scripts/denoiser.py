"""Train or check a denoiser."""

from stillhouse.artifacts.jobs import run
from stillhouse.diffusion.train_denoiser import denoiser

run(denoiser, snakemake)
