"""Cluster and rank the patches of one block of classes (DDPS, section 3.3)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.ddps.clusters import clusters

run(clusters, snakemake)
