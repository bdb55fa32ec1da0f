"""Encode the images of one block of classes."""

from stillhouse.artifacts.jobs import run
from stillhouse.diffusion.latents import latents

run(latents, snakemake)
