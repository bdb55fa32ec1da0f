"""Shared by several methods: patches, features, selection, initialisation."""
