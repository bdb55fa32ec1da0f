"""Train or check a denoiser."""

from stillhouse.denoiser_stage import denoiser
from stillhouse.jobs import run

run(denoiser, snakemake)
