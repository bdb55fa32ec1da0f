"""Draw groups of latents for one block of classes (D3HR, section 4.4)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.d3hr.samples import samples

run(samples, snakemake)
