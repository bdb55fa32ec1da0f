"""Sources by reference: folders of image files, which are read in place."""

import os
from pathlib import Path

from stillhouse.data.sources.base import Image
from stillhouse.errors import StillhouseError

# Other files in a class's folder (lists, boxes, thumbnails) are not images.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


class ImageFolder:
    """A folder per split with a folder per class, which contains image files at any depth.

    Class ids are the names of the folders; an image's id is its path below the root.

    Parameters
    ----------
    settings : dict
        ``name``, ``classes``, ``train`` and ``test`` (folders below the root), ``holdout``.
    root : str or Path
    """

    def __init__(self, settings, root):
        self.settings = settings
        self.root = Path(root)
        self.key = f"sources.{settings['name']}"

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, split by split, class by class, sorted."""
        for split in ("train", "test"):
            folder = self.settings[split]
            if split == "test" and self.lacks_test_folder():
                continue
            for class_id in (c for c in self.settings["classes"] if c in wanted):
                yield from self.of_class(folder, class_id, split)

    def lacks_test_folder(self):
        """Return whether the test folder is missing and, with a holdout, not needed."""
        folder = self.root / self.settings["test"]
        return bool(self.settings["holdout"]) and not folder.is_dir()

    def of_class(self, folder, class_id, split):
        """Yield the images of one class in one split."""
        place = self.root / folder / class_id
        if not place.is_dir():
            folders = (self.root, self.root / folder, place)
            missing = next(path for path in folders if not path.is_dir())
            raise StillhouseError(
                f"{self.key}: folder not found: {missing} (images of class {class_id!r})"
            )
        for path in _files(place):
            yield self.reference(class_id, split, path)

    def reference(self, class_id, split, path):
        """Return an image by reference."""
        name = path.relative_to(self.root).as_posix()
        if not name.isprintable():
            raise StillhouseError(
                f"{str(path)!r}: file name must be printable text; rename the file"
            )
        return Image(class_id, name, split, None, name)


def _files(folder):
    """Yield the image files of a folder and its subfolders, sorted by name."""
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _files(Path(entry.path))
        elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
            yield Path(entry.path)


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
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            raise StillhouseError(
                f"{self.key}: file not found: {path}; for validation images sorted into folders "
                "per class, use kind: image_folder"
            ) from None
        for number, line in enumerate(lines, 1):
            columns = line.split("\t")
            if len(columns) < 2 or "/" in columns[0]:
                raise StillhouseError(
                    f"{path}: line {number}: invalid {line[:60]!r}; must be a file name and a "
                    "class, separated by a tab"
                )
            yield columns[0], columns[1]
