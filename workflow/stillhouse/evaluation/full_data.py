"""Full data: all training images of a dataset with hard labels."""

from dataclasses import replace

import numpy as np

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.augmentation.views import draw
from stillhouse.data.splits import load_split
from stillhouse.evaluation.label_sources import HardLabels


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

    Images are the largest centred squares, resized, as those of the method ``random``.

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
    images, hard = load_split(files, classes, side, "train", context.source_roots)
    images, hard, n_views = images.to(device), hard.to(device), settings.get("images_per_epoch")
    return FullDataLabels(settings["labels"], images, hard, len(classes), n_views)
