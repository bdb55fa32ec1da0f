"""Draw the latents of a method before and after inversion."""

from stillhouse.domains import latent_chart
from stillhouse.jobs import run_for_people

run_for_people(latent_chart, snakemake)
