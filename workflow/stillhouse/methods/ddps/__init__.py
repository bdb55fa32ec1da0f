"""DDPS: patches scored by a diffusion model."""
