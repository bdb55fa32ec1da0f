"""Random numbers addressed by their purpose, independent of the order of calls."""

import hashlib

import numpy as np


def key(seed, stage, class_id="", item=""):
    """Return a 128-bit integer that depends on the four arguments alone.

    Parameters
    ----------
    seed : int
        The seed of the config (`teacher.seed`, a distill seed, `labels.seed`, a student seed).
    stage : str
        Purpose of the numbers, for example ``"preselect"``.
    class_id, item : str or int
        Class and item (image id, epoch) of the numbers; empty for none.
    """
    text = "\x1f".join(str(part) for part in (seed, stage, class_id, item))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(seed, stage, class_id="", item=""):
    """Return a NumPy generator for (seed, stage, class id, item); see `key`."""
    return np.random.Generator(np.random.Philox(key=key(seed, stage, class_id, item)))


def permutation(rng, n):
    """Return a uniformly random order of ``range(n)``, (n,) int64, from n uniform draws.

    Sorting uniform numbers gives the same order in all NumPy releases, which
    `Generator.permutation` does not guarantee.
    """
    return np.argsort(rng.random(n), kind="stable")
