"""Real images of a dataset in memory, drawn at random per class and iteration."""

import torch

from stillhouse.rng import generator, permutation


class RealImages:
    """The training images of a dataset.

    Parameters
    ----------
    pixels : (n, 3, side, side) uint8 tensor
        On the device of the utility; class by class.
    labels : (n,) int64 tensor
        Positions in `class_ids`; sorted.
    class_ids : list of str
        The addresses of the random numbers.
    seed : int
    """

    def __init__(self, pixels, labels, class_ids, seed):
        self.pixels, self.class_ids, self.seed = pixels, class_ids, seed
        counts = torch.bincount(labels.cpu(), minlength=len(class_ids)).tolist()
        starts = [sum(counts[:label]) for label in range(len(counts))]
        self.ranges = list(zip(starts, counts, strict=True))

    def draw(self, label, count, iteration):
        """Return random images of a class, at most all, (count, 3, side, side) uint8.

        Without replacement within an iteration; each iteration draws anew (main_DM.py).
        """
        start, available = self.ranges[label]
        rng = generator(self.seed, "utility real images", self.class_ids[label], iteration)
        chosen = start + permutation(rng, available)[:count]
        return self.pixels[torch.from_numpy(chosen).to(self.pixels.device)]
