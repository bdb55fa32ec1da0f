"""Draw the clusters of a method."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.score_maps import cluster_sheet

run_for_people(cluster_sheet, snakemake)
