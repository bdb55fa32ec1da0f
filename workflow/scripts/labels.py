"""Keep what teachers say of the views of a distilled set."""

from stillhouse.jobs import run
from stillhouse.labels import labels

run(labels, snakemake)
