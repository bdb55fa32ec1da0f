"""Draw how images were synthesised."""

from stillhouse.descents import synthesis_sheet
from stillhouse.jobs import run_for_people

run_for_people(synthesis_sheet, snakemake)
