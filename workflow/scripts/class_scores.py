"""Score the images of one block of classes by a denoiser (DDPS, section 3.2)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.ddps.class_scores import class_scores

run(class_scores, snakemake)
