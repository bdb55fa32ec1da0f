"""A distilled set for people who only want the data.

from stillhouse.data import DistilledSet
images = DistilledSet("results/distilled/digits/rded-…/ipc10-seed0/images.parquet")
"""

import numpy as np
import torch

from stillhouse.artifacts import store
from stillhouse.methods.distilled import SCHEMA, read_set


class DistilledSet(torch.utils.data.Dataset):
    """A distilled set as a map-style dataset.

    Parameters
    ----------
    path : str or Path
        An ``images.parquet`` with its ``spec.json`` beside it.
    transform : callable, optional
        Takes a (3, height, width) uint8 tensor.

    Raises
    ------
    stillhouse.errors.StillhouseError
        If the file is damaged or of another kind.
    """

    def __init__(self, path, transform=None):
        table = store.read_table(path, schema=SCHEMA)
        images, labels = read_set(table)
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(np.array(labels))
        self.class_ids = table["class_id"].to_pylist()
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, label = self.images[index], int(self.labels[index])
        return (self.transform(image) if self.transform else image), label
