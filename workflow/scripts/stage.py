"""Compute the artifact, or the members of an artifact, that one job wants."""

from stillhouse.artifacts.jobs import run_stage
from stillhouse.methods.registry import stages
from stillhouse.planning.inputs import job_inputs

spec, members = snakemake.params.spec, snakemake.params.get("members", ())
run_stage(snakemake, stages()[spec["stage"]], job_inputs(spec, members))
