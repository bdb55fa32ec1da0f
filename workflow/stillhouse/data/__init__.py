"""Images: from a source to arrays; distilled sets."""
