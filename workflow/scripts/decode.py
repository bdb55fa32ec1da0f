"""Make images of one block of classes from noisy latents."""

from stillhouse.decode import decode
from stillhouse.jobs import run

run(decode, snakemake)
