"""Find cluster centres of one block of classes (D4M)."""

from stillhouse.jobs import run
from stillhouse.prototypes import prototypes

run(prototypes, snakemake)
