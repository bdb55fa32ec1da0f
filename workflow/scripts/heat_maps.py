"""Draw the class scores of a method over its images."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.score_maps import heat_maps

run_for_people(heat_maps, snakemake)
