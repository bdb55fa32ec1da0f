"""Keep what teachers say of the views of a distilled set."""

from stillhouse.labels import labels
from stillhouse.jobs import run

run(labels, snakemake)
