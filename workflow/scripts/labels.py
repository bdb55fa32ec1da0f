"""Keep what teachers say of the views of a distilled set."""

from stillhouse.artifacts.jobs import run
from stillhouse.evaluation.soft_labels import labels

run(labels, snakemake)
