"""The exception for errors of users, and checks that raise it in one line: key, problem, remedy."""

import difflib

# Messages list up to this many names; of more, they give the number.
LISTED = 20


class StillhouseError(Exception):
    """Invalid input: one line with the place, the problem and the remedy."""


def known(key, name, choices, title):
    """Raise a `StillhouseError` for an unknown name.

    Parameters
    ----------
    key : str
        Config key, for the message.
    name : str
    choices : collection of str
    title : str
        Noun for one of the choices: "teacher".
    """
    if name not in choices:
        raise StillhouseError(f"{key}: unknown {title} {name!r}; {suggestion(name, choices)}")


def suggestion(name, choices):
    """Return a remedy for an unknown name: the nearest of the choices, or the choices.

    Parameters
    ----------
    name : object
        Compared as text.
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
    """Raise a `StillhouseError` if a crop, at any depth of settings, has its larger area first."""
    if not isinstance(value, dict):
        return
    for name, part in value.items():
        if name == "crop" and part[0] > part[1]:
            raise StillhouseError(f"{key}.crop: must be [smaller, larger], not {part}; swap them")
        ordered_crops(f"{key}.{name}", part)
