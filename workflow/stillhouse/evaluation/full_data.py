"""Full data: all training images of a dataset with hard labels, read where they are stored."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.augmentation.views import draw
from stillhouse.data.class_images import count_images, read_class
from stillhouse.data.codecs import decode
from stillhouse.data.splits import load_split, squares
from stillhouse.evaluation.label_sources import HardLabels
from stillhouse.planning.sizes import MEMORY_BYTES


class StoredImages:
    """Training images of a dataset that are decoded when they are indexed.

    In memory are the paths of images by reference, or else the encoded images. Stands for a
    (n, 3, side, side) uint8 tensor, of which ``images[rows]`` is on the device.

    Parameters
    ----------
    classes : list of stillhouse.data.class_images.ClassImages
    resolution : int
        Side of the images [px].
    device : torch.device
    """

    def __init__(self, classes, resolution, device):
        self.rows = [(images, image_id) for images in classes for image_id in images.image_ids]
        self.shape, self.device = (len(self.rows), 3, resolution, resolution), device
        self.pool = ThreadPoolExecutor(torch.get_num_threads())

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, rows):
        """Return the images of rows, (k,) int64 tensor: (k, 3, side, side) uint8 tensor."""
        pixels = list(self.pool.map(self._decoded, rows.tolist()))
        return squares(pixels, self.shape[-1], whole=True).to(self.device)

    def _decoded(self, row):
        images, image_id = self.rows[row]
        return decode(images.read(image_id), image_id)


class FullDataLabels(HardLabels):
    """All training images with their classes, each once before any is repeated.

    Parameters
    ----------
    n_views : int, optional
        Images per epoch; by default all.
    """

    def __init__(self, settings, images, hard, n_classes, n_views=None):
        super().__init__(settings, images, hard, n_classes)
        self.n_views = n_views or len(images)

    def draw(self, epoch, seed):
        """Return random views of the images of an epoch, on the device."""
        side, batch_size = self.images.shape[-1], self.settings["batch_size"]
        views = draw(
            self.settings["views"], seed, epoch, self.n_views, side, batch_size, self.stage
        )
        rows = epoch_rows(seed, epoch, self.n_views, len(self.images))
        return replace(views, index=rows[views.index]).to(self.images.device)


def epoch_rows(seed, epoch, n, n_images):
    """Return the rows of the images of an epoch, (n,) int64.

    Epochs divide a sequence of random orders of all images, one after the other: each image is used
    once before any is used again.

    Parameters
    ----------
    seed, epoch : int
    n : int
        Images per epoch.
    n_images : int
    """
    first = epoch * n
    orders = range(first // n_images, (first + n - 1) // n_images + 1)
    rows = [permutation(generator(seed, "full data", item=item), n_images) for item in orders]
    start = first - orders[0] * n_images
    return np.concatenate(rows)[start : start + n]


def labels_of_full_data(inputs, spec, context):
    """Return the `FullDataLabels` of a dataset's training images.

    Images are the largest centred squares, resized, as those of the method ``random``. Up to
    `MEMORY_BYTES` they are in memory on the device.

    Parameters
    ----------
    inputs : dict
        ``images``: ``images.parquet`` by class id.
    spec : dict
        Of the student: ``classes``, ``resolution``, ``labels``, and ``images_per_epoch`` if it is
        less than all.
    context : stillhouse.artifacts.context.Context
    """
    settings, device = spec["settings"], context.torch_device()
    files, classes, side = inputs["images"], settings["classes"], settings["resolution"]
    counts = torch.tensor([count_images(files[name], "train") for name in classes])
    if 3 * side**2 * counts.sum() <= MEMORY_BYTES:
        images, hard = load_split(files, classes, side, "train", context.source_roots)
        images = images.to(device)
    else:
        stored = [read_class(files[name], "train", context.source_roots) for name in classes]
        images = StoredImages(stored, side, device)
        hard = torch.arange(len(classes)).repeat_interleave(counts)
    n_views = settings.get("images_per_epoch")
    return FullDataLabels(settings["labels"], images, hard.to(device), len(classes), n_views)
