"""Folders that are written completely or not at all, with a manifest of their files."""

import contextlib
import json
import os
import shutil
from pathlib import Path

from stillhouse.artifacts import formats
from stillhouse.errors import StillhouseError

MANIFEST = "manifest.json"
EXPORTER = "stillhouse"


@contextlib.contextmanager
def written(folder):
    """Yield a folder to be filled, which then replaces `folder`.

    Its files are listed with size and SHA-256 in ``manifest.json``. After an error nothing is left,
    and an earlier export is as it was.

    Parameters
    ----------
    folder : str or Path
        Missing, empty, or an earlier export whose files are unchanged.

    Raises
    ------
    StillhouseError
        If the folder has other files.
    """
    folder = Path(os.path.abspath(folder))
    check(folder)
    temporary, former = (
        folder.with_name(f".{folder.name}.{os.getpid()}.{name}") for name in ("tmp", "old")
    )
    try:
        try:
            temporary.mkdir(parents=True)
            yield temporary
            formats.save_json(
                temporary / MANIFEST, {"exporter": EXPORTER, "files": listing(temporary)}
            )
            check(folder)
            if folder.exists():
                folder.rename(former)
            temporary.rename(folder)
        except OSError as error:
            raise StillhouseError(
                f"{folder}: not written ({error.strerror}); make room or change permissions"
            ) from None
    finally:
        if former.exists() and not folder.exists():
            former.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def check(folder):
    """Raise a `StillhouseError` if a folder has files that no export wrote or that have changed."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StillhouseError(f"{folder}: a file; give a folder that does not exist")
    listed = _listed(folder)
    for path in files(folder):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST and listed:
            continue
        if name not in listed or formats.checksum(path) != listed[name]["sha256"]:
            raise StillhouseError(
                f"{folder}: conflicts with {name}, which is not of an export or was changed; give "
                "another folder, or delete it"
            )


def _listed(folder):
    """Return the files that the manifest of an export lists; empty without such a manifest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return manifest["files"] if manifest["exporter"] == EXPORTER else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def files(folder):
    """Return all files below a folder, sorted by path."""
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def listing(folder):
    """Return {path: size and SHA-256} of all files below a folder."""
    return {path.relative_to(folder).as_posix(): entry(path) for path in files(folder)}


def entry(path):
    """Return size and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": formats.checksum(path)}
