"""Train the students of one cell."""

from stillhouse.artifacts.jobs import run
from stillhouse.evaluation.students import students

run(students, snakemake)
