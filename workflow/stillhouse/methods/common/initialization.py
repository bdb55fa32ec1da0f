"""The images that a synthesis starts from."""

import numpy as np
import torch

from stillhouse.artifacts import store
from stillhouse.data.class_images import read_class
from stillhouse.data.crops import whole_image
from stillhouse.data.distilled_set import read_set
from stillhouse.data.transforms import normalise
from stillhouse.rng import generator, permutation


def initial(slots, inputs, settings, keys, roots):
    """Return the images that synthesis starts from, normalised, (n, 3, side, side) float32.

    ``noise``: standard normals. ``real``: images of the class, drawn at random; a method's name:
    those of its distilled set. Either mirrored by chance; ``distinct``: each image once while there
    are enough, ``replacement``: drawn anew for every image (C EDC recover.py).

    Parameters
    ----------
    slots : list of (int, int)
        Class and index of each image.
    """
    side, classes = settings["resolution"], settings["classes"]
    draw = lambda label, index: generator(  # noqa: E731
        keys["seed"], "initial", classes[label], index
    )
    if settings["initial"] == "noise":
        noise = [draw(*slot).standard_normal((3, side, side), np.float32) for slot in slots]
        return torch.from_numpy(np.stack(noise))
    read, found = _from_set if "initial" in inputs else _real, {}
    for label in dict.fromkeys(label for label, _ in slots):
        count, at = read(label, inputs, settings, roots)
        rng = generator(keys["seed"], "initial order", classes[label])
        order = permutation(rng, count) if settings["initial"] == "real" else range(count)
        for index in (index for own, index in slots if own == label):
            chances = draw(label, index).random(2)
            place = int(chances[0] * count)
            if settings["initial_draw"] == "distinct":
                place = int(order[index % count])
            image = at(place)
            found[label, index] = image[:, :, ::-1] if chances[1] < settings["flip"] else image
    return normalise(torch.from_numpy(np.stack([found[slot] for slot in slots])))


def _from_set(label, inputs, settings, roots):
    """Return how many images of a class there are, and a function from a place to one's pixels."""
    stored = store.open_row_groups(inputs["initial"])
    pixels, _ = read_set(stored.read_row_group(label))
    return len(pixels), lambda place: pixels[place]


def _real(label, inputs, settings, roots):
    files = inputs["images"]
    rows = read_class(files[settings["classes"][label]], "train", roots)
    return len(rows), lambda place: whole_image(*rows[place], settings["resolution"])[0]
