"""Splits of a dataset, cropped and resized for a network: in memory, or in a file if large."""

import copy
import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from stillhouse.artifacts import context, machine_faults
from stillhouse.data.boxes import centre_box, test_crop_box
from stillhouse.data.class_images import count_images, read_class
from stillhouse.data.codecs import decode
from stillhouse.data.transforms import cut, round_to_uint8

# Images of one shape that are cropped and resized together.
BATCH = 256


def load_split(files, class_ids, resolution, split, source_roots=None, whole=False):
    """Load a split of a dataset, cropped and resized for a network.

    Parameters
    ----------
    files : dict of str to Path
        ``images.parquet`` by class id.
    class_ids : list of str
        In the order of the labels.
    resolution : int
        Side of the result [px].
    split : str
        ``test``: the crop of `test_crop_box`; ``train``: the largest centred square.
    source_roots : dict of str to str, optional
        See `read_class`.
    whole : bool
        Use the largest centred square for test images too.

    Returns
    -------
    images : (n, 3, resolution, resolution) uint8 tensor, or `StoredImages`
        The latter if they have more than `context.MEMORY_BYTES`.
    labels : (n,) int64 tensor
    """
    counts = [count_images(files[class_id], split) for class_id in class_ids]
    shape = (sum(counts), 3, resolution, resolution)
    parts = (
        squares(
            _decoded(files[class_id], split, source_roots), resolution, whole or split == "train"
        )
        for class_id in class_ids
    )
    if math.prod(shape) > context.MEMORY_BYTES:
        images = StoredImages(shape, parts)
    else:
        # Allocated once: joined parts would take twice the memory of the split.
        images = torch.empty(shape, dtype=torch.uint8)
        for part, pixels in zip(images.split(counts), parts, strict=True):
            part.copy_(pixels)
    return images, torch.arange(len(class_ids)).repeat_interleave(torch.tensor(counts))


def _decoded(path, split, source_roots):
    """Return the images of a class at their own size, list of (3, height, width) uint8 arrays."""
    images, threads = read_class(path, split, source_roots), torch.get_num_threads()
    parts = [images.image_ids[i::threads] for i in range(threads)]
    pixels = {}

    def read(image_ids):
        pixels.update((name, decode(images.read(name), name)) for name in image_ids)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, parts))
    return [pixels[name] for name in images.image_ids]


class StoredImages:
    """Images in a temporary file, of which the process holds only those that are indexed.

    Stands for a (n, 3, side, side) uint8 tensor: ``images[rows]``, of a slice or an int64 tensor,
    and the parts of ``images.split(size)`` are tensors on the device of ``images.to(device)``. The
    file has no name, so that it ends with the process, and is in the folder of checkpoints.

    Parameters
    ----------
    shape : tuple of int
        (n, 3, side, side).
    parts : iterable of (k, 3, side, side) uint8 tensors
        The n images, in order.

    Raises
    ------
    stillhouse.artifacts.machine_faults.DiskFull
        If there is no room for all of them, before any is made.
    """

    def __init__(self, shape, parts):
        self.shape, self.device = shape, torch.device("cpu")
        # Before hours of decoding, and while the file is empty.
        if machine_faults.free_bytes(context.WORK) < math.prod(shape):
            raise machine_faults.DiskFull(context.WORK, math.prod(shape))
        context.WORK.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=context.WORK)  # noqa: SIM115, closed with the images
        for part in parts:
            self.file.write(part.numpy())
        self.file.flush()

    def __len__(self):
        return self.shape[0]

    def to(self, device):
        """Return the images, in the same file, to be moved to a device when they are indexed."""
        moved = copy.copy(self)
        moved.device = torch.device(device)
        return moved

    def split(self, size):
        """Yield the images in order, `size` at a time."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def __getitem__(self, rows):
        """Return the images of rows, (k, 3, side, side) uint8 tensor on the device."""
        numbers = range(len(self))[rows] if isinstance(rows, slice) else rows.tolist()
        images = torch.empty((len(numbers), *self.shape[1:]), dtype=torch.uint8)
        for row, target in zip(numbers, images.numpy(), strict=True):
            if os.preadv(self.file.fileno(), [target], row * target.nbytes) != target.nbytes:
                raise OSError(f"{context.WORK}: temporary file of images is incomplete")
        return images.to(self.device)


def squares(pixels, resolution, whole):
    """Crop and resize images to one square size, grouped by shape.

    Parameters
    ----------
    pixels : list of (3, height, width) uint8 arrays
    resolution : int
        Side of the result [px].
    whole : bool
        Use the largest centred square, not the crop of `test_crop_box`.

    Returns
    -------
    (n, 3, resolution, resolution) uint8 tensor
    """
    result = torch.empty((len(pixels), 3, resolution, resolution), dtype=torch.uint8)
    by_shape = {}
    for i, image in enumerate(pixels):
        by_shape.setdefault(image.shape[1:], []).append(i)
    for (height, width), rows in by_shape.items():
        box = centre_box(height, width) if whole else test_crop_box(height, width, resolution)
        if (height, width) == (resolution, resolution) == tuple(box[2:]):  # no resampling
            result[rows] = torch.from_numpy(np.stack([pixels[i] for i in rows]))
            continue
        for first in range(0, len(rows), BATCH):
            batch_rows = rows[first : first + BATCH]
            batch = torch.from_numpy(np.stack([pixels[i] for i in batch_rows]))
            boxes = torch.from_numpy(box).expand(len(batch_rows), 4)
            result[batch_rows] = round_to_uint8(cut(batch, boxes, resolution))
    return result
