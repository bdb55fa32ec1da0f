"""Synthesise one batch of images (SRe2L, G-VBSM, EDC)."""

from stillhouse.jobs import run
from stillhouse.synthesis import synthesis

run(synthesis, snakemake)
