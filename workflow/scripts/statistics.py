"""Collect statistics of the layers of a teacher (EDC, section 3.2)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.statistical_matching.statistics import statistics

run(statistics, snakemake)
