"""Put everything about an experiment into one page."""

from stillhouse.jobs import run_for_people
from stillhouse.page import page

run_for_people(page, snakemake)
