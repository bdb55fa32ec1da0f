"""Draw the class scores of a method over its images."""

from stillhouse.jobs import run_for_people
from stillhouse.maps import heat_maps

run_for_people(heat_maps, snakemake)
