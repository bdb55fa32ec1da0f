"""Differentiable siamese augmentation in matching: one operation and strength per class or step.

Zhao & Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021; the
operations are in `stillhouse.augmentation`. In the official code (VICO-UoE/DatasetCondensation,
utils.py), real and synthetic images of a class share the operation and its strengths; in the
training of networks, a step shares the operation alone.
"""

import numpy as np
import torch

from stillhouse.artifacts.rng import generator
from stillhouse.augmentation import ops, policies


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
        """Return {label: [(operation, magnitude)]}, shared by the images of a class.

        Operations are positions in `stillhouse.augmentation.ops.NAMES`.

        Parameters
        ----------
        labels : iterable of int
        iteration : int
        """
        labels = list(labels)
        draws = [
            generator(self.seed, "utility siamese", self.class_ids[label], iteration).random(4)
            for label in labels
        ]
        numbers, magnitudes = self._operations(np.array(draws)[:, 0], np.array(draws)[:, 1:])
        return {
            label: list(zip(*pairs, strict=True))
            for label, *pairs in zip(labels, numbers.tolist(), magnitudes.tolist(), strict=True)
        }

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
            return np.zeros((len(choices), 0), np.int64), np.zeros((len(choices), 0))
        return policies.siamese(choices, draws, self.operations, self.resolution)


def augment_classes(images, sizes, drawn):
    """Apply one sequence of operations per class to normalised images; differentiable.

    Parameters
    ----------
    images : (n, 3, side, side) tensor
        Normalised; class by class.
    sizes : dict of int to int
        Images by label, in their order.
    drawn : dict of int to list of (int, float)
        As `Siamese.of_classes` returns it.

    Returns
    -------
    (n, 3, side, side) tensor
    """
    parts = images.split(list(sizes.values()))
    augmented = []
    for label, part in zip(sizes, parts, strict=True):
        numbers, magnitudes = zip(*drawn[label], strict=True) if drawn[label] else ((), ())
        pairs = (np.tile(np.array(v), (len(part), 1)) for v in (numbers, magnitudes))
        augmented.append(augment(part, tuple(pairs)))
    return torch.cat(augmented)


def augment(images, drawn):
    """Apply operations to normalised images, each with its own magnitude; differentiable.

    Parameters
    ----------
    images : (n, 3, side, side) tensor
        Normalised.
    drawn : (ops, magnitudes)
        (n, k) arrays.

    Returns
    -------
    (n, 3, side, side) tensor
    """
    numbers, magnitudes = (torch.as_tensor(part).to(images.device) for part in drawn)
    return ops.apply(images, numbers, magnitudes.to(images.dtype), "normalised")
