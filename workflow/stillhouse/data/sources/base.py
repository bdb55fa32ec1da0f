"""Images of a source, encoded or by reference to their files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from stillhouse.errors import StillhouseError


@dataclass(frozen=True)
class Image:
    """One image of a source, encoded or by reference.

    Parameters
    ----------
    class_id, image_id : str
        Stable names; the image id is unique in the source.
    split : str
        ``train`` or ``test``.
    data : bytes or None
        Content of the encoded file; None for an image by reference.
    path : str
        Path below the root for an image by reference; else the file name in the source.
    """

    class_id: str
    image_id: str
    split: str
    data: bytes | None
    path: str

    def load(self, root):
        """Return the content of the encoded file; an image by reference is read below `root`."""
        return read_file(root, self.path) if self.data is None else self.data


def read_file(root, path):
    """Return the content of an image file below the root of its source."""
    file = Path(root) / path
    try:
        return file.read_bytes()
    except OSError as error:
        raise StillhouseError(f"{file}: cannot be read ({error.strerror})") from None


def sha256(data):
    """Return the SHA-256 of bytes as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()
