"""Describe the images or patches of one block of classes by a teacher's features."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.common.features import features

run(features, snakemake)
