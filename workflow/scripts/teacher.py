"""Train or load a teacher."""

from stillhouse.teachers import teacher
from stillhouse.jobs import run

run(teacher, snakemake)
