"""Uncropped real images: random, herding, k-means."""
