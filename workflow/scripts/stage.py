"""Compute the artifact of one job, or the members of its block."""

from stillhouse.artifacts.jobs import process_of_one_job, run_stage
from stillhouse.methods.registry import stages
from stillhouse.planning.inputs import job_inputs

with process_of_one_job():
    spec, members = snakemake.params.spec, snakemake.params.get("members", ())
    run_stage(snakemake, stages()[spec["stage"]], job_inputs(spec, members))
