"""Train or load a teacher."""

from stillhouse.artifacts.jobs import run
from stillhouse.training.teachers import teacher

run(teacher, snakemake)
