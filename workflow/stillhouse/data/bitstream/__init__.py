"""Bitstreams of images: latents and networks in one file, decoded exactly without torch."""
