"""Evaluation: relabelling, label sources and students."""
