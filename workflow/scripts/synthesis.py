"""Synthesise one batch of images (SRe2L, G-VBSM, EDC)."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.statistical_matching.synthesis import synthesis

run(synthesis, snakemake)
