"""The exception for errors of users."""


class StillhouseError(Exception):
    """Invalid input: one line with the place, the problem and the remedy."""
