"""Checks that several modules share, each raising one line: where, what is wrong, a remedy."""

import difflib

from stillhouse.errors import StillhouseError

# More names than this are counted in a message, not listed.
LISTED = 20


def known(key, name, choices, title):
    """Raise a `StillhouseError` if a name is not among those that exist.

    Parameters
    ----------
    key : str
        Where the config has it.
    name : str
    choices : collection of str
    title : str
        What they are, in the singular: "teacher".
    """
    if name not in choices:
        raise StillhouseError(f"{key}: unknown {title} {name!r}; {suggestion(name, choices)}")


def suggestion(name, choices):
    """Return a remedy for an unknown name: the nearest of the choices, or the choices.

    Parameters
    ----------
    name : object
        Shown names are compared as text.
    choices : collection of str
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(str(name), choices, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(choices) <= LISTED:
        return f"available: {', '.join(choices) or 'none'}"
    near = difflib.get_close_matches(str(name), choices, 3, 0.4)
    return f"{len(choices)} are available" + (f", such as {', '.join(near)}" if near else "")


def ordered_crops(key, value):
    """Raise a `StillhouseError` if a crop anywhere in settings has its larger area first."""
    if not isinstance(value, dict):
        return
    for name, part in value.items():
        if name == "crop" and part[0] > part[1]:
            raise StillhouseError(f"{key}.crop: must be [smaller, larger], not {part}; swap them")
        ordered_crops(f"{key}.{name}", part)
