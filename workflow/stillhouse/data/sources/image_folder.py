"""Sources by reference: folders of image files, which are read in place."""

import errno
import os
import stat
from collections import Counter
from itertools import chain
from pathlib import Path

from stillhouse.artifacts import foreign_files
from stillhouse.data.sources.base import Image
from stillhouse.errors import StillhouseError, suggestion

# Other files in a class's folder (lists, boxes) are not images.
SUFFIXES = frozenset(chain.from_iterable(foreign_files.IMAGE_FORMATS.values()))
# Folders below that of a class, of which each is one call deeper.
DEEPEST = 100
# Folders of systems and tools, beside those whose names begin with a dot.
SERVICE_FOLDERS = {
    *("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
    *("system volume information", "__pycache__"),
}


class ImageFolder:
    """A folder per split with a folder per class, which contains image files at any depth.

    Class ids are the names of the folders; an image's id is its path below the root.

    Parameters
    ----------
    settings : dict
        ``name``, ``classes``, ``train`` and ``test`` (folders below the root), ``holdout``.
    root : str or Path

    Attributes
    ----------
    left_out : Counter
        What `images` has left out in the folders of classes: other files by their suffix, hidden
        files, hidden and service folders, links to an enclosing folder.
    """

    def __init__(self, settings, root):
        self.settings = settings
        self.root = Path(root)
        self.key = f"sources.{settings['name']}"
        self.left_out = Counter()

    def check_folders(self):
        """Raise a `StillhouseError` if the folder of a class is missing; no file is looked up."""
        for folder, _ in self._split_folders():
            for class_id in self.settings["classes"]:
                self._class_folder(folder, class_id)

    def _split_folders(self):
        """Return (folder below the root, split) of the splits that exist or are needed."""
        splits = ("train",) if self.lacks_test_folder() else ("train", "test")
        return [(self.settings[split], split) for split in splits]

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, split by split, class by class, sorted."""
        for folder, split in self._split_folders():
            for class_id in (c for c in self.settings["classes"] if c in wanted):
                yield from self.of_class(folder, class_id, split)

    def lacks_test_folder(self):
        """Return whether the test folder is missing and, with a holdout, not needed."""
        folder = self.root / self.settings["test"]
        return bool(self.settings["holdout"]) and not folder.is_dir()

    def of_class(self, folder, class_id, split):
        """Yield the images of one class in one split."""
        for path in self._files(self._class_folder(folder, class_id), ()):
            yield self.reference(class_id, split, path)

    def _class_folder(self, folder, class_id):
        place = self.root / folder / class_id
        if not place.is_dir():
            folders = (self.root, self.root / folder, place)
            missing = next(path for path in folders if not path.is_dir())
            others = _folders(missing.parent)
            remedy = suggestion(missing.name, others)
            if missing == place and not others:
                remedy = f"{missing.parent} has no folders: sort its images into one per class"
            raise StillhouseError(
                f"{self.key}: folder not found: {missing} (images of class {class_id!r}); {remedy}"
            )
        return place

    def _files(self, folder, enclosing):
        """Yield the image files of a folder and its subfolders, sorted by name.

        `enclosing` identifies the folders around it, which a link may lead back to.
        """
        try:
            state = os.stat(folder)
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            reason = foreign_files.reason(error)
            raise StillhouseError(
                f"{self.key}: folder cannot be read: {foreign_files.printable(folder)} ({reason})"
            ) from None
        enclosing = (*enclosing, (state.st_dev, state.st_ino))
        if len(enclosing) > DEEPEST:
            name = foreign_files.printable(folder)
            raise StillhouseError(f"{self.key}: {name}: must be at most {DEEPEST} folders deep")
        for entry in entries:
            target = _folder_state(entry)
            reason = left_out_as(entry.name, target is not None)
            if target is not None and (target.st_dev, target.st_ino) in enclosing:
                reason = "links to an enclosing folder"
            if reason is not None:
                self.left_out[reason] += 1
            elif target is not None:
                yield from self._files(Path(entry.path), enclosing)
            else:
                yield Path(entry.path)

    def reference(self, class_id, split, path):
        """Return an image by reference."""
        name = path.relative_to(self.root).as_posix()
        if not name.isprintable():
            raise StillhouseError(
                f"{str(path)!r}: file name must be printable text; rename the file"
            )
        return Image(class_id, name, split, None, name)


def _folder_state(entry):
    """Return the state of a folder's entry if it is a folder or a link to one; else None.

    Other files are not looked up, which would take long for a million files.
    """
    try:
        if not (entry.is_symlink() or entry.is_dir(follow_symlinks=False)):
            return None
        state = entry.stat()
        return state if stat.S_ISDIR(state.st_mode) else None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return None
        reason = foreign_files.reason(error)
        name = foreign_files.printable(entry.path)
        raise StillhouseError(f"{name}: cannot be read ({reason})") from None


def left_out_as(name, is_folder):
    """Return the kind of an entry that is no image and no folder of images; None for others."""
    if is_folder:
        service = name.startswith(".") or name.lower() in SERVICE_FOLDERS
        return "hidden and service folders" if service else None
    if name.startswith("."):
        return "hidden files"
    suffix = Path(name).suffix.lower()
    return None if suffix in SUFFIXES else suffix or "files without suffix"


def _folders(place):
    """Return the names of the folders in a folder that may be of a class; empty if unreadable."""
    try:
        names = os.listdir(place)
    except OSError:
        return []
    return [name for name in names if (place / name).is_dir() and not left_out_as(name, True)]


class TinyImageNet(ImageFolder):
    """Tiny-ImageNet as published, where a file has the classes of the validation images.

    ``train/<class>/images/*.JPEG``; ``val/images/*.JPEG`` and ``val/val_annotations.txt``, with
    file, class and box in columns between tabs.
    """

    def __init__(self, settings, root):
        super().__init__({**settings, "train": "train", "test": "val"}, root)

    def images(self, wanted):
        """Yield the images of the classes in `wanted`: training by class, test by file name."""
        for class_id in sorted(wanted):
            yield from self.of_class("train", class_id, "train")
        for name, class_id in [] if self.lacks_test_folder() else sorted(self._annotations()):
            if class_id in wanted:
                yield self.reference(class_id, "test", self.root / "val" / "images" / name)

    def _annotations(self):
        path = self.root / "val" / "val_annotations.txt"
        if not os.path.lexists(path):
            raise StillhouseError(
                f"{self.key}: file not found: {path}; for validation images sorted into folders "
                "per class, use kind: image_folder"
            )
        foreign_files.check(self.key, path)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except ValueError:
            raise StillhouseError(f"{path}: is no UTF-8 text; download it again") from None
        for number, line in enumerate(lines, 1):
            columns = line.split("\t")
            if len(columns) < 2 or "/" in columns[0]:
                raise StillhouseError(
                    f"{path}: line {number}: invalid {line[:60]!r}; must be a file name and a "
                    "class, separated by a tab"
                )
            yield columns[0], columns[1]
