"""Draw accuracy and cost of an experiment."""

from stillhouse.charts import charts
from stillhouse.jobs import run_for_people

run_for_people(charts, snakemake)
