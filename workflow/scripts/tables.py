"""Put cells into tables."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.tables import tables

run_for_people(tables, snakemake)
