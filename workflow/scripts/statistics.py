"""Collect statistics of the layers of a teacher (EDC, section 3.2)."""

from stillhouse.jobs import run
from stillhouse.statistics import statistics

run(statistics, snakemake)
