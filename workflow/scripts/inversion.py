"""Bring the latents of one block of classes to the noise domain (D3HR, section 4.2)."""

from stillhouse.inversion import inversion
from stillhouse.jobs import run

run(inversion, snakemake)
