"""The files of a set made elsewhere: which of them are read, and their digest.

The Snakefile imports this module: it imports no heavy packages.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from stillhouse.artifacts import foreign_files, formats
from stillhouse.data.sources.image_folder import left_out_as
from stillhouse.diffusion.pretrained import folder_digest
from stillhouse.errors import StillhouseError

# Images, labels and, if it exists, learning rate: of MTT, DATM and others; of DD-Ranking.
TENSORS = (
    ("images_best.pt", "labels_best.pt", "lr_best.pt"),
    ("images.pt", "labels.pt", "lr.pt"),
)
LAYOUTS = {
    ".parquet": "parquet",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".pt": "results",
    ".pth": "results",
}


@dataclass(frozen=True)
class Files:
    """The files of a set.

    Parameters
    ----------
    layout : str
        ``folders`` (one per class), ``tensors``, or a value of `LAYOUTS`.
    root : Path
        Folder of the set, or of its file.
    names : tuple of str
        Files that are read, below the root, sorted.
    """

    layout: str
    root: Path
    names: tuple

    @property
    def paths(self):
        """The files that are read."""
        return [self.root / name for name in self.names]


def set_files(place, folder):
    """Return the `Files` of a set.

    Parameters
    ----------
    place : str or Path
    folder : bool
        Whether the set is a folder, not a file.

    Raises
    ------
    StillhouseError
        Begins with the key, ``folder`` or ``file``, if there is no set of a known layout.
    """
    key, place = "folder" if folder else "file", Path(place)
    foreign_files.check(key, place, folder)
    if not folder:
        return _single_file(place)
    try:
        entries = {one.name: one for one in sorted(os.scandir(place), key=lambda one: one.name)}
        if files := _tensor_files(place, entries):
            return files
        tables = tuple(name for name in entries if Path(name).suffix == ".parquet")
        if tables:
            return Files("parquet", place, tables)
        names = [
            f"{name}/{image}"
            for name, entry in entries.items()
            if entry.is_dir() and left_out_as(name, True) is None
            for image in sorted(os.listdir(entry.path))
            if left_out_as(image, False) is None
        ]
    except OSError as error:
        reason = foreign_files.reason(error)
        raise StillhouseError(
            f"{key}: {foreign_files.printable(place)}: cannot be read ({reason})"
        ) from None
    if not names:
        raise StillhouseError(
            f"{key}: {foreign_files.printable(place)}: no set of a known layout; must have a "
            "folder of images per class, Parquet files, or images_best.pt and labels_best.pt"
        )
    for name in names:
        if not name.isprintable():
            raise StillhouseError(f"{key}: {name!r}: must be printable text; rename the file")
    return Files("folders", place, tuple(names))


def _single_file(path):
    if path.suffix.lower() not in LAYOUTS:
        raise StillhouseError(
            f"file: {foreign_files.printable(path)}: unknown format; must be one of "
            f"{', '.join(LAYOUTS)}"
        )
    if any(path.name in names[:2] for names in TENSORS):
        raise StillhouseError(
            f"file: {foreign_files.printable(path)}: is one of two files of a set; name their "
            "folder as folder"
        )
    return Files(LAYOUTS[path.suffix.lower()], path.parent, (path.name,))


def _tensor_files(place, entries):
    for images, labels, rate in TENSORS:
        if images not in entries:
            continue
        if labels not in entries:
            raise StillhouseError(
                f"folder: {foreign_files.printable(place)}: {labels} is missing beside {images}; "
                "store the labels, one per image"
            )
        return Files("tensors", place, (images, labels, *((rate,) if rate in entries else ())))
    return None


def digest(files):
    """Return the SHA-256 by which a set is known, wherever it is.

    Of a single file, its own; of a folder, that of the names and checksums of all files read.
    """
    try:
        checksums = {name: formats.checksum(files.root / name) for name in files.names}
    except OSError as error:
        raise StillhouseError(
            f"{error.filename}: cannot be read ({foreign_files.reason(error)})"
        ) from None
    single = len(checksums) == 1 and files.layout in LAYOUTS.values()
    return checksums[files.names[0]] if single else folder_digest(checksums)
