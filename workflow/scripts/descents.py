"""Draw how images were synthesised."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.synthesis_progress import descents

run_for_people(descents, snakemake)
