"""Keep the encoded images of one block of classes."""

from stillhouse.images import images
from stillhouse.jobs import run

run(images, snakemake)
