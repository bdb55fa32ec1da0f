"""Score the images of one block of classes by a denoiser (DDPS, section 3.2)."""

from stillhouse.jobs import run
from stillhouse.typicality import class_scores

run(class_scores, snakemake)
