"""The user's YAML: schema, validation, resolved settings."""
