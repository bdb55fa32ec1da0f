"""What several methods share: patches, features, selection, initialisation."""
