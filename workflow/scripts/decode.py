"""Make images of one block of classes from noisy latents."""

from stillhouse.artifacts.jobs import run
from stillhouse.diffusion.decode import decode

run(decode, snakemake)
