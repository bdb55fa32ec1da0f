"""Sources: labelled image collections with stable class ids."""
