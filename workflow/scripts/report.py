"""Write the table, figure or page of one job."""

from stillhouse.artifacts.jobs import alone, run_report
from stillhouse.artifacts.stages import load_function

with alone():
    run_report(load_function(snakemake.params.function), snakemake)
