"""Sets made elsewhere as images with labels, whatever their layout; checks of what they hold."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from stillhouse.data.sources.base import read_file
from stillhouse.errors import LISTED, StillhouseError

# A folder of RDED is named 00003, one of SRe2L, EDC and G-VBSM new003.
POSITION = re.compile(r"(?:new)?_?([0-9]{1,9})")


@dataclass(frozen=True)
class GivenSet:
    """A set made elsewhere.

    Parameters
    ----------
    place : str
        Its folder or file, for messages.
    images : sequence
        Per row: bytes of an encoded image, (3, height, width) uint8 array, or a function without
        parameters that returns one of these.
    labels : (n,) int64 array
        Position of the class of each image in the dataset.
    soft : (n, n_classes) float32 array, optional
        Labels stored with the images; `soft_kind` is ``logits`` or ``probabilities``.
    learning_rate : float, optional
        For the training of students.
    """

    place: str
    images: list | np.ndarray
    labels: np.ndarray
    soft: np.ndarray | None = None
    soft_kind: str | None = None
    learning_rate: float | None = None

    def rows(self, label):
        """Return the rows of a class, in the order of the set."""
        return np.flatnonzero(self.labels == label)

    def check_counts(self, classes, ipc):
        """Raise a `StillhouseError` unless every class has `ipc` images."""
        counts = {c: len(self.rows(label)) for label, c in enumerate(classes)}
        wrong = {class_id: n for class_id, n in counts.items() if n != ipc}
        if not wrong:
            return
        ((usual, _),) = Counter(counts.values()).most_common(1)
        if len(wrong) == len(classes) and set(wrong.values()) == {usual}:
            raise StillhouseError(
                f"{self.place}: {usual} images per class, but the IPC is {ipc}; set the "
                f"experiment's ipc to [{usual}]"
            )
        listed = ", ".join(f"{class_id!r} {n}" for class_id, n in list(wrong.items())[:5])
        more = ", …" * (len(wrong) > 5)
        raise StillhouseError(
            f"{self.place}: images per class must be the IPC, {ipc}, not {listed}{more} "
            f"({len(wrong)} of {len(classes)} classes); complete the set, or set another ipc"
        )


def from_folders(files, classes):
    """Return the `GivenSet` of a folder per class, named by class id or by position."""
    names = [name.partition("/")[0] for name in files.names]
    folders = list(dict.fromkeys(names))
    if set(folders) <= set(classes):
        label_of = {name: classes.index(name) for name in folders}
    else:
        label_of = {name: _position(files.root, name, folders, classes) for name in folders}
    images = [_reader(files.root, name) for name in files.names]
    labels = np.array([label_of[name] for name in names], np.int64)
    return GivenSet(str(files.root), images, labels)


def _reader(root, name):
    return lambda: read_file(root, name)


def _position(root, name, folders, classes):
    """Return the position of a class from the name of its folder."""
    match = POSITION.fullmatch(name)
    if match is None or int(match[1]) >= len(classes):
        unknown = [one for one in folders if one not in classes]
        listed = ", ".join(unknown[:LISTED]) + ", …" * (len(unknown) > LISTED)
        raise StillhouseError(
            f"{root}: unknown classes: {listed}; folders must be the class ids of the dataset, or "
            f"the positions 0 to {len(classes) - 1}, as in 00003 or new003"
        )
    return int(match[1])


def positions(place, labels, classes):
    """Return hard labels as positions in the dataset, (n,) int64.

    Parameters
    ----------
    place : str
    labels : (n,) array
        Integers, which are positions, or text, which are class ids.
    classes : list of str

    Raises
    ------
    StillhouseError
        For a label of another type, and for one that is no class of the dataset.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind == "U":
        label_of = {class_id: i for i, class_id in enumerate(classes)}
        unknown = sorted(set(labels.tolist()) - label_of.keys())
        if not unknown:
            return np.array([label_of[name] for name in labels.tolist()], np.int64)
        raise StillhouseError(
            f"{place}: labels: unknown class {unknown[0][:60]!r}; must be a class id of the dataset"
        )
    if labels.dtype.kind not in "iu":
        raise StillhouseError(
            f"{place}: labels: {labels.dtype} of shape {labels.shape}; must be integers or class "
            "ids, one per image, or one row of numbers per image"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
        raise StillhouseError(
            f"{place}: labels: {labels.min()} to {labels.max()}; must be positions of the "
            f"dataset's classes, 0 to {len(classes) - 1}"
        )
    return labels.astype(np.int64)


def soft_labels(place, labels, classes, hard=None):
    """Return (labels, kind, hard labels) of soft labels.

    Parameters
    ----------
    place : str
    labels : (n, n_classes) array
        Probabilities if all rows are, else logits.
    classes : list of str
    hard : (n,) array, optional
        Class of each image; the largest label if missing.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.shape[1] != len(classes):
        raise StillhouseError(
            f"{place}: labels: shape {labels.shape}; must be one number per image, or "
            f"{len(classes)}, one per class of the dataset"
        )
    if labels.dtype.kind not in "fiu":
        raise StillhouseError(f"{place}: labels: {labels.dtype}; must be numbers")
    labels = labels.astype(np.float32)
    if not np.isfinite(labels).all():
        raise StillhouseError(f"{place}: labels: not all are finite; store others")
    sums = labels.sum(1, dtype=np.float64)
    is_distribution = (labels >= 0).all() and np.allclose(sums, 1, rtol=0, atol=1e-3)
    hard = labels.argmax(1) if hard is None else positions(place, hard, classes)
    return labels, "probabilities" if is_distribution else "logits", hard.astype(np.int64)
