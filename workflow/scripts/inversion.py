"""Bring the latents of one block of classes to the noise domain (D3HR, section 4.2)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.d3hr.inversion import inversion

run(inversion, snakemake)
