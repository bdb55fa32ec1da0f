"""List the images of a source with their checksums."""

from stillhouse.artifacts.jobs import run
from stillhouse.data.index import index

run(index, snakemake)
