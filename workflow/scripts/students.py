"""Train the students of one cell."""

from stillhouse.jobs import run
from stillhouse.students import students

run(students, snakemake)
