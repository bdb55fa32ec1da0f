"""Draw the learning curves of an experiment."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.charts import curves

run_for_people(curves, snakemake)
