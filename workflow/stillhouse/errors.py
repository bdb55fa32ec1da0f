"""The exception for errors of users, and checks that raise it in one line: key, problem, remedy."""

import difflib
import re
import unicodedata

# Messages list up to this many names; of more, they give the number.
LISTED = 20
# Characters of a library's message that are quoted.
QUOTED = 200
# Colours and other control sequences for terminals.
TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


class StillhouseError(Exception):
    """Invalid input: one line with the place, the problem and the remedy."""


def one_line(error):
    """Return the message of any library's error as one printable line of at most 200 characters.

    Parameters
    ----------
    error : BaseException or str
        Without a message, the result is the name of its type.
    """
    text = " ".join(TERMINAL_CODES.sub("", str(error)).split())
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    text = text or type(error).__name__
    return text if len(text) <= QUOTED else text[: QUOTED - 1] + "…"


def same_in_unicode(name, choices):
    """Return the first of the choices that differs from a name in its Unicode form alone, or None.

    Accents are one character with their letter (NFC), or one of their own (NFD, as on macOS).
    """
    folded = unicodedata.normalize("NFC", str(name))
    same = (one for one in choices if unicodedata.normalize("NFC", str(one)) == folded)
    return next((one for one in same if one != name), None)


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
    same = same_in_unicode(name, choices)
    if same is not None:
        return (
            f"{same!r} has other characters for its accents (Unicode form NFC or NFD): write both "
            "alike"
        )
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
