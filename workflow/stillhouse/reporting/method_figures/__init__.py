"""Figures of single methods: latents, score maps, progress of optimisations."""
