"""Train or load a teacher."""

from stillhouse.jobs import run
from stillhouse.teachers import teacher

run(teacher, snakemake)
