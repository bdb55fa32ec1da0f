"""Draw the clusters of a method."""

from stillhouse.jobs import run_for_people
from stillhouse.maps import cluster_sheet

run_for_people(cluster_sheet, snakemake)
