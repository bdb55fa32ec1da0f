"""Draw accuracy and cost of an experiment."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.charts import charts

run_for_people(charts, snakemake)
