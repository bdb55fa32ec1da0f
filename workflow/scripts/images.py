"""Keep the encoded images of one block of classes."""

from stillhouse.artifacts.jobs import run
from stillhouse.data.class_images import images

run(images, snakemake)
