"""Put cells into tables."""

from stillhouse.tables import tables
from stillhouse.jobs import run_for_people

run_for_people(tables, snakemake)
