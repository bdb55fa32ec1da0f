"""The one exception that is meant for users."""


class StillhouseError(Exception):
    """Bad input: one line that says what is wrong, where, and what would be right."""
