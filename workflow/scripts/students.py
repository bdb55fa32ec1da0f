"""Train the students of one cell."""

from stillhouse.students import students
from stillhouse.jobs import run

run(students, snakemake)
