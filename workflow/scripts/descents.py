"""Draw how images were synthesised."""

from stillhouse.descents import descents
from stillhouse.jobs import run_for_people

run_for_people(descents, snakemake)
