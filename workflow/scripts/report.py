"""Write the table, figure or page of one job."""

from stillhouse.artifacts.jobs import run_report
from stillhouse.artifacts.stages import load_function

run_report(load_function(snakemake.params.function), snakemake)
