"""Describe the images or patches of one block of classes by a teacher's features."""

from stillhouse.features import features
from stillhouse.jobs import run

run(features, snakemake)
