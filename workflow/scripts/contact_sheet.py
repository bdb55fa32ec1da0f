"""Draw the images of a distilled set."""

from stillhouse.figures import contact_sheet
from stillhouse.jobs import run_for_people

run_for_people(contact_sheet, snakemake)
