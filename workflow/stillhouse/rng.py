"""Random numbers addressed by what they are for, never by the order of calls."""

import hashlib

import numpy as np


def key(seed, stage, class_id="", item=""):
    """Return a 128-bit integer that depends on all four arguments and on nothing else.

    Parameters
    ----------
    seed : int
        The seed of the config (`teacher.seed`, a distill seed, `labels.seed`, a student seed).
    stage : str
        What the numbers are for, for example ``"preselect"``.
    class_id, item : str or int
        The class and the item (image id, epoch) they belong to; empty where there is none.
    """
    text = "\x1f".join(str(part) for part in (seed, stage, class_id, item))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def generator(seed, stage, class_id="", item=""):
    """Return a NumPy generator for (seed, stage, class id, item); see `key`."""
    return np.random.Generator(np.random.Philox(key=key(seed, stage, class_id, item)))


def permutation(rng, n):
    """Return a uniformly random order of ``range(n)``, (n,) int64, from n uniform draws.

    Sorting uniforms keeps the order the same across NumPy releases, which `Generator.permutation`
    does not promise.
    """
    return np.argsort(rng.random(n), kind="stable")
