"""Distilled sets made elsewhere."""
