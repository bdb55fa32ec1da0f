"""Whole real images: random, herding, k-means."""
