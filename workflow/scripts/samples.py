"""Draw groups of latents for one block of classes (D3HR, section 4.4)."""

from stillhouse.jobs import run
from stillhouse.samples import samples

run(samples, snakemake)
