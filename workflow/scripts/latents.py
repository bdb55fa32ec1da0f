"""Encode the images of one block of classes."""

from stillhouse.jobs import run
from stillhouse.latents import latents

run(latents, snakemake)
