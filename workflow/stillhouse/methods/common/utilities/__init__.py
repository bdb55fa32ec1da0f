"""Utilities: losses of distilled images against real ones, with gradients to the images."""
