"""Errors of users, in one line: key, problem, remedy; checks that raise them; exit statuses."""

import difflib
import functools
import os
import re
import signal
import sys
import unicodedata
from pathlib import Path

# Messages list up to this many names; of more, they give the number.
LISTED = 20
# Characters of a library's message that are quoted.
QUOTED = 200
# Colours and other control sequences for terminals.
TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


class StillhouseError(Exception):
    """Invalid input: one line with the place, the problem and the remedy."""


class FileError(StillhouseError):
    """A file that cannot be used, by its path.

    Parameters
    ----------
    path : Path
    problem : str
    """

    def __init__(self, path, problem):
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)


class Missing(FileError):
    """A missing file of an artifact."""


class Damaged(FileError):
    """A file that is truncated, altered, or not listed in its spec."""


class Misplaced(FileError):
    """A complete artifact that belongs to another address."""


class WrongType(FileError):
    """A complete file of the wrong kind, or with other columns than expected."""


class UsageError(Exception):
    """Wrong arguments of a command: its usage."""


def command(main):
    """Decorate the main function of a command, which has a list of arguments and prints lines.

    The result returns the exit status of the process: that of the function, or 0; 1 for a
    `StillhouseError`, one line on standard error; 2 for a `UsageError`; and without a message, as
    for any program that the signal ends, 130 after Ctrl-C and 141 if standard output is a pipe
    whose reader ended, such as ``head``.
    """

    @functools.wraps(main)
    def run(arguments, **options):
        try:
            status = _status(functools.partial(main, arguments, **options))
            sys.stdout.flush()
        except BrokenPipeError:
            # The interpreter writes the rest of its buffer at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        return status

    return run


def _status(main):
    try:
        return main() or 0
    except StillhouseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


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
