"""Find cluster centres of one block of classes (D4M)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.d4m.prototypes import prototypes

run(prototypes, snakemake)
