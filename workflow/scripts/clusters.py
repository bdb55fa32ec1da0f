"""Cluster and rank the patches of one block of classes (DDPS, section 3.3)."""

from stillhouse.clusters import clusters
from stillhouse.jobs import run

run(clusters, snakemake)
