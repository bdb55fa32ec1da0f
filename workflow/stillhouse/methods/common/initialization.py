"""Initialisation of synthetic images for an optimisation of pixels."""

import numpy as np
import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.class_images import read_class
from stillhouse.data.crops import whole_image
from stillhouse.data.distilled_set import read_set
from stillhouse.data.transforms import normalise


def initial_images(kind, places, files, resolution, seed, draw="distinct", flip=0.0, roots=None):
    """Return initial images, normalised, (n, 3, resolution, resolution) float32.

    Parameters
    ----------
    kind : str
        ``noise``: standard normals. ``real``: images of the class, drawn at random. ``set``: images
        of another distilled set.
    places : list of (str, int)
        Class id and index of each image, the address of its random numbers.
    files : None, dict or Path
        ``real``: encoded images by class id, for the classes of `places`; ``set``: the distilled
        set.
    resolution : int
        Side of the images [px]; must be that of a set's images.
    seed : int
    draw : str
        ``distinct``: without replacement while there are enough images, those of a set in their
        order; ``replacement``: with replacement (C EDC recover.py).
    flip : float
        Probability that an image is mirrored; not for noise.
    roots : dict of str to str, optional
        Root folder by source, for sources with a root.
    """
    if kind == "noise":
        shape = (3, resolution, resolution)
        normals = [
            generator(seed, "initial", class_id, index).standard_normal(shape, np.float32)
            for class_id, index in places
        ]
        return torch.from_numpy(np.stack(normals))
    images = {}
    for class_id in dict.fromkeys(class_id for class_id, _ in places):
        if kind == "real":
            count, image_at = _real_images(files[class_id], resolution, roots)
            order = permutation(generator(seed, "initial order", class_id), count)
        else:
            count, image_at = _set_images(files, class_id)
            order = range(count)
        for index in (index for own, index in places if own == class_id):
            chances = generator(seed, "initial", class_id, index).random(2)
            distinct = draw == "distinct"
            image = image_at(int(order[index % count] if distinct else chances[0] * count))
            images[class_id, index] = image[:, :, ::-1] if chances[1] < flip else image
    return normalise(torch.from_numpy(np.stack([images[place] for place in places])))


def initial_files(inputs, kind):
    """Return the files of initial images of a kind among a stage's inputs, see `initial_images`."""
    return {"noise": None, "real": inputs.get("images"), "set": inputs.get("initial")}[kind]


def _set_images(path, class_id):
    """Return (number of images of a class in a distilled set, function that reads one)."""
    row_group = store.read_spec(path.parent)["settings"]["classes"].index(class_id)
    pixels, _ = read_set(store.open_row_groups(path).read_row_group(row_group))
    return len(pixels), pixels.__getitem__


def _real_images(path, resolution, roots):
    rows = read_class(path, "train", roots)

    def image_at(place):
        return whole_image(*rows[place], resolution)[0]

    return len(rows), image_at
