"""List the images of a source with their checksums."""

from stillhouse.indexing import index
from stillhouse.jobs import run

run(index, snakemake)
