"""Draw the images of a distilled set."""

from stillhouse.artifacts.jobs import run_for_people
from stillhouse.reporting.contact_sheets import contact_sheet

run_for_people(contact_sheet, snakemake)
