"""Real images: random, herding, k-means."""
