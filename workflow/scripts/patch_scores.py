"""Score random crops of one block of classes (RDED, section C.2)."""

from stillhouse.jobs import run
from stillhouse.rded import patch_scores

run(patch_scores, snakemake)
