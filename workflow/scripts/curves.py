"""Draw the learning curves of an experiment."""

from stillhouse.charts import curves
from stillhouse.jobs import run_for_people

run_for_people(curves, snakemake)
