"""From resolved settings to artifacts and the inputs of their jobs."""
