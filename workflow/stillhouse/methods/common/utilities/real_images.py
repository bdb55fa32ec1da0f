"""Real images of a dataset, drawn at random per class and iteration."""

import numpy as np
import torch

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.transforms import normalise


class RealImages:
    """The training images of a dataset.

    Parameters
    ----------
    pixels : (n, 3, side, side) uint8 tensor, or `stillhouse.data.splits.StoredImages`
        On the device of the utility; class by class.
    labels : (n,) int64 tensor
        Positions in `class_ids`; sorted.
    class_ids : list of str
        The addresses of the random numbers.
    seed : int
    prepare : callable
        From pixels to inputs of networks, see `stillhouse.data.whitening.preparation`.
    """

    def __init__(self, pixels, labels, class_ids, seed, prepare=normalise):
        self.pixels, self.class_ids, self.seed = pixels, class_ids, seed
        self.prepare = prepare
        counts = torch.bincount(labels.cpu(), minlength=len(class_ids)).tolist()
        starts = [sum(counts[:label]) for label in range(len(counts))]
        self.ranges = list(zip(starts, counts, strict=True))

    def rows(self, label, count, iteration):
        """Return the rows of random images of a class, at most all, (count,) int64 array.

        Without replacement within an iteration; each iteration draws again (main_DM.py).
        """
        start, available = self.ranges[label]
        rng = generator(self.seed, "utility real images", self.class_ids[label], iteration)
        return start + permutation(rng, available)[:count]

    def draw(self, labels, count, iteration):
        """Return random images of classes, one after the other, as inputs, float32."""
        rows = np.concatenate([self.rows(label, count, iteration) for label in labels])
        return self.prepare(self.pixels[torch.from_numpy(rows).to(self.pixels.device)])

    def sizes(self, labels, count):
        """Return {label: number of images} that `draw` returns."""
        return {label: min(count, self.ranges[label][1]) for label in labels}
