"""Score random crops of one block of classes (RDED, section C.2)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.rded.patch_scores import patch_scores

run(patch_scores, snakemake)
