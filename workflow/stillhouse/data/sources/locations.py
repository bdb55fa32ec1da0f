"""Files and folders of a source in the config: Parquet files by name, pattern or folder.

The Snakefile imports this module: it imports no heavy packages.
"""

import glob
import os
from pathlib import Path

from stillhouse.artifacts import foreign_files
from stillhouse.data.sources.image_folder import ImageFolder
from stillhouse.errors import StillhouseError

PATTERN = "*.parquet"


def parquet_files(paths):
    """Return the Parquet files that paths name, those of a pattern or a folder in name order.

    Parameters
    ----------
    paths : list of str
        Files, patterns such as ``data/train-*.parquet`` or ``data/**/*.parquet``, or folders, as
        Spark writes them also under names of files. Those that match nothing are returned as they
        are: `check_source` reports them.
    """
    files = []
    for path in paths:
        matching = {}  # `**` matches a folder and the files in it
        places = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        for place in places or [path]:
            pattern = os.path.join(glob.escape(place), PATTERN)
            within = sorted(glob.glob(pattern)) if os.path.isdir(place) else []
            matching |= dict.fromkeys(within or [place])
        files += matching
    return files


def check_source(key, source):
    """Raise a `StillhouseError` if the files or the root of a source cannot be used.

    Of Parquet files, the first bytes are read, of image folders those of the classes are looked up.

    Parameters
    ----------
    key : str
        ``sources.<name>``, for the message.
    source : dict
        Of the settled config.
    """
    if "root" in source and not source.get("download"):
        foreign_files.check(f"{key}.root", source["root"], folder=True)
    if source["kind"] == "image_folder":
        name = key.removeprefix("sources.")
        ImageFolder({**source, "name": name}, source["root"]).check_folders()
    if source["kind"] == "parquet":
        listed = {}
        for split in ("train", "test"):
            for path in parquet_files(source[split]):
                _check_parquet(f"{key}.{split}", path, listed)


def _check_parquet(key, path, listed):
    """Raise if a path is no file, or is among those listed: {(device, inode): name}."""
    if os.path.isdir(path):
        raise StillhouseError(
            f"{key}: {path}: has no files {PATTERN}; list files, another folder, or, for files in "
            f"its subfolders, {Path(path, '**', PATTERN)}"
        )
    foreign_files.check(key, path)
    if not foreign_files.begins(path, b"PAR1"):
        what = foreign_files.placeholder_file(path) or "of another format"
        raise StillhouseError(f"{key}: {foreign_files.printable(path)}: is {what}; must be Parquet")
    state = os.stat(path)
    other_key, other = listed.setdefault((state.st_dev, state.st_ino), (key, path))
    if (other_key, other) != (key, path) or path in listed:
        raise StillhouseError(
            f"{key}: {path} is the same file as {other} of {other_key}; remove one"
        )
    listed[path] = None
