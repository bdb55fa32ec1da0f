"""Put everything about an experiment into one page."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.html_report import page

run_for_people(page, snakemake)
