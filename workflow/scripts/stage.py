"""Compute the artifact of one job, or the members of its block."""

from stillhouse.artifacts.jobs import alone, run_stage
from stillhouse.methods.registry import stages
from stillhouse.planning.inputs import job_inputs

with alone():
    spec, members = snakemake.params.spec, snakemake.params.get("members", ())
    run_stage(snakemake, stages()[spec["stage"]], job_inputs(spec, members))
