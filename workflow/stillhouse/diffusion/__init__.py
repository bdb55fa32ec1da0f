"""Latent diffusion models: loading, training, encoding, sampling."""
