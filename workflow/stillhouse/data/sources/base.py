"""Images of a source, encoded or by reference to their files."""

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from stillhouse.artifacts import foreign_files
from stillhouse.errors import StillhouseError

# The largest file that is read as an image [bytes].
MOST_BYTES = 2**30
# Errors of links and special files: they would be the same at the next attempt.
PERMANENT = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR, errno.EISDIR)


class UnreadableFile(StillhouseError):
    """A file that is no image, whatever its content: a broken link, a named pipe, a huge file.

    Parameters
    ----------
    path : Path
    problem : str
    """

    def __init__(self, path, problem):
        super().__init__(f"{path}: cannot be read ({problem})")
        self.problem = problem


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
    """Return the content of an image file below the root of its source.

    Raises
    ------
    UnreadableFile
        For a broken link, for what is no regular file, and for one of more than `MOST_BYTES`.
    StillhouseError
        If it cannot be read for another reason.
    """
    file = Path(root) / path
    try:
        # Without O_NONBLOCK, a named pipe would block until something writes to it.
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0, closefd=True) as stream:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise UnreadableFile(file, foreign_files.problem(file) or "no regular file")
            if state.st_size > MOST_BYTES:
                raise UnreadableFile(file, f"{state.st_size} bytes are too many for an image")
            return stream.readall()
    except OSError as error:
        if error.errno in PERMANENT:
            problem = foreign_files.problem(file) or foreign_files.reason(error)
            raise UnreadableFile(file, problem) from None
        raise StillhouseError(f"{file}: cannot be read ({foreign_files.reason(error)})") from None


def sha256(data):
    """Return the SHA-256 of bytes as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()
