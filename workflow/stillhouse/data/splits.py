"""Splits of a dataset in memory, cropped and resized for a network."""

import numpy as np
import torch

from stillhouse.data.boxes import centre_box, test_crop_box
from stillhouse.data.class_images import count_images, read_class
from stillhouse.data.codecs import decode
from stillhouse.data.transforms import cut, round_to_uint8

# Images of one shape that are cropped and resized together.
BATCH = 256


def load_split(files, class_ids, resolution, split, source_roots=None, whole=False):
    """Load a split of a dataset into memory, cropped and resized for a network.

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
    images : (n, 3, resolution, resolution) uint8 tensor
    labels : (n,) int64 tensor
    """
    counts = [count_images(files[class_id], split) for class_id in class_ids]
    # Allocated once: joined parts would take twice the memory of the split.
    images = torch.empty((sum(counts), 3, resolution, resolution), dtype=torch.uint8)
    for part, class_id in zip(images.split(counts), class_ids, strict=True):
        rows = read_class(files[class_id], split, source_roots)
        pixels = [decode(data, image_id) for image_id, data in rows]
        part.copy_(squares(pixels, resolution, whole or split == "train"))
    return images, torch.arange(len(class_ids)).repeat_interleave(torch.tensor(counts))


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
