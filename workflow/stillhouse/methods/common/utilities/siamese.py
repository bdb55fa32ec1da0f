"""Differentiable siamese augmentation in matching: one operation and strength per class or step.

Zhao & Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021; the
operations are in `stillhouse.augmentation`. In the official code (VICO-UoE/DatasetCondensation,
utils.py), real and synthetic images of a class share the operation and its strengths; in the
training of networks, a step shares the operation alone.
"""

import numpy as np
import torch

from stillhouse.augmentation import ops, policies
from stillhouse.rng import generator


def identity(count):
    """Return (ops, magnitudes), (count, 0) each, of no augmentation."""
    return np.zeros((count, 0), np.int64), np.zeros((count, 0))


class Siamese:
    """Random operations by their addresses: seed, purpose, class id, iteration.

    Parameters
    ----------
    operations : list of str
        Keys of `stillhouse.augmentation.policies.SIAMESE` to choose from; empty for none.
    class_ids : list of str
    resolution : int
        Side of the images [px].
    seed : int
    """

    def __init__(self, operations, class_ids, resolution, seed):
        self.operations, self.class_ids = operations, class_ids
        self.resolution, self.seed = resolution, seed

    def of_classes(self, labels, iteration):
        """Return {label: (ops, magnitudes)} of one row each, (1, k), shared by a class.

        Parameters
        ----------
        labels : iterable of int
        iteration : int
        """
        drawn = {}
        for label in labels:
            class_id = self.class_ids[label]
            draws = generator(self.seed, "utility siamese", class_id, iteration).random((1, 4))
            drawn[label] = self._operations(draws[:, 0], draws[:, 1:])
        return drawn

    def of_steps(self, counts, purpose, item):
        """Return [(ops, magnitudes)] of the steps of a training, (count, k) each.

        A step has one operation, each of its rows a strength.

        Parameters
        ----------
        counts : list of int
            Rows of each step.
        purpose : str
            Stage of the random numbers.
        item : str or int
        """
        rng = generator(self.seed, purpose, item=item)
        choices = rng.random(len(counts))
        draws = np.split(rng.random((sum(counts), 3)), np.cumsum(counts)[:-1])
        return [
            self._operations(np.full(len(rows), choice), rows)
            for choice, rows in zip(choices, draws, strict=True)
        ]

    def _operations(self, choices, draws):
        if not self.operations:
            return identity(len(choices))
        return policies.siamese(choices, draws, self.operations, self.resolution)


def augment(images, drawn):
    """Apply operations to normalised images; differentiable.

    Parameters
    ----------
    images : (n, 3, side, side) tensor
        Normalised.
    drawn : (ops, magnitudes)
        (n, k) arrays, or (1, k) for all images alike.

    Returns
    -------
    (n, 3, side, side) tensor
    """
    numbers, magnitudes = (torch.as_tensor(part).to(images.device) for part in drawn)
    if not numbers.shape[1]:
        return images
    numbers = numbers.expand(len(images), -1)
    magnitudes = magnitudes.to(images.dtype).expand(len(images), -1)
    return ops.apply(images, numbers, magnitudes, "normalised")
