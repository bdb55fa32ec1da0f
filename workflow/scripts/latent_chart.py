"""Draw the latents of a method before and after inversion."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.latent_space import latent_chart

run_for_people(latent_chart, snakemake)
