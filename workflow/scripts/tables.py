"""Put cells into tables."""

from stillhouse.jobs import run_for_people
from stillhouse.tables import tables

run_for_people(tables, snakemake)
