"""Files of users: existence, kind of file, and what a file is that has the wrong content.

The Snakefile imports this module: it imports no heavy packages.
"""

import errno
import os
import stat
from pathlib import Path

from stillhouse.errors import StillhouseError

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Formats of image files, by Pillow's names, and their suffixes.
IMAGE_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
}
# First bytes of what is found in place of data files, and a description with the remedy.
PLACEHOLDERS = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer; run `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer; run `git annex get`",
    b"<!doctype html": "an HTML page; download the file itself",
    b"<html": "an HTML page; download the file itself",
    b"\x1f\x8b": "a gzip archive; unpack it",
    b"pare": "an encrypted Parquet file; decrypt it",
    b"arrow1": "an Arrow file (Feather); convert it to Parquet",
}


def problem(path, folder=False):
    """Return why a path is not a readable file (or folder), None if it is.

    Nothing is opened: a named pipe would block.

    Parameters
    ----------
    path : str or Path
    folder : bool
        Whether it must be a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        if os.path.islink(path) and getattr(error, "errno", None) == errno.ENOENT:
            return "a link to a missing file"
        return reason(error)
    wanted = stat.S_ISDIR if folder else stat.S_ISREG
    if not wanted(mode):
        return (
            f"is {KINDS.get(stat.S_IFMT(mode), 'a file')}, not a {'folder' if folder else 'file'}"
        )
    if not os.access(path, os.R_OK | (os.X_OK if folder else 0)):
        return "no permission to read it"
    return None


def check(key, path, folder=False):
    """Raise a `StillhouseError` if a path of the config is no readable file (or folder).

    Parameters
    ----------
    key : str
        Config key, for the message.
    path : str or Path
    folder : bool
        See `problem`.
    """
    reason_refused = problem(path, folder)
    if reason_refused is not None:
        kind, name = "folder" if folder else "file", printable(path)
        if not os.path.lexists(path):
            raise StillhouseError(f"{key}: {kind} not found: {name}; {_path_remedy(name)}")
        raise StillhouseError(f"{key}: {name}: {reason_refused}; must be a readable {kind}")


def check_results(path):
    """Raise a `StillhouseError` if something that is no readable folder is in the place of one.

    A missing folder is no error: jobs make it.
    """
    if os.path.lexists(path) and (reason_refused := problem(path, folder=True)):
        raise StillhouseError(
            f"{path}: {reason_refused}; must be a readable folder: correct it, or set --directory"
        )


def _path_remedy(name):
    """Return what to do about a path that does not exist."""
    if "://" in name:
        return "it must be on this machine: download it"
    if name.startswith("~") or "$" in name:
        return "write it out: ~ and variables have no effect in a config"
    return "correct the path"


def printable(path):
    """Return a path as text for a message; in quotes, with escapes, if it is not printable."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def reason(error):
    """Return the reason of an error of the operating system: "No such file or directory"."""
    return getattr(error, "strerror", None) or str(error)


def begins(path, starts):
    """Return whether a file begins with one of several bytes; True if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(64).startswith(starts)
    except OSError:
        return True


def is_safetensors(path):
    """Return whether a file begins like a safetensors file: the size of a header, then JSON."""
    with open(path, "rb") as stream:
        return stream.read(9)[8:] == b"{"


def check_weights(key, path):
    """Raise a `StillhouseError` if a path of the config is no file of weights.

    Only its first bytes are read: safetensors, or a PyTorch checkpoint of either format.
    """
    check(key, path)
    if not begins(path, (b"PK\x03\x04", b"\x80")) and not is_safetensors(path):
        what = placeholder_file(path) or "of another format"
        raise StillhouseError(
            f"{key}: {printable(path)}: is {what}; must be safetensors or a PyTorch checkpoint"
        )


def placeholder(data):
    """Return what the first bytes of a file are in place of data, with a remedy; None for data."""
    start = bytes(data[:64]).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((text for first, text in PLACEHOLDERS.items() if start.startswith(first)), None)


def placeholder_file(path):
    """Return `placeholder` of a file; None if it cannot be read."""
    try:
        with open(Path(path), "rb") as stream:
            return placeholder(stream.read(64))
    except OSError:
        return None
