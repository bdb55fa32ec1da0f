"""Images: from a source to arrays, and distilled sets."""
