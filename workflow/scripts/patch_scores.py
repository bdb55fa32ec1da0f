"""Score random crops of one block of classes (RDED, section C.2)."""

from stillhouse.rded import patch_scores
from stillhouse.jobs import run

run(patch_scores, snakemake)
