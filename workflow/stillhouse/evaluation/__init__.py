"""Soft labels and students."""
