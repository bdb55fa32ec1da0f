"""Random real images, and coresets by herding or k-means."""
