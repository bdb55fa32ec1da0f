"""Write the table, figure or page of one job."""

from stillhouse.artifacts.jobs import process_of_one_job, run_report
from stillhouse.artifacts.stages import load_function

with process_of_one_job():
    run_report(load_function(snakemake.params.function), snakemake)
