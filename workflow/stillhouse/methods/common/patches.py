"""Patches: preselected images, ranked scores, and patches stitched into images.

Sun et al., "On the Diversity and Realism of Distilled Dataset" (RDED, CVPR 2024), Algorithm 1 and
supplement section C.2; official code LINs-lab/RDED at 3f6453d, synthesize/.
"""

import numpy as np
import pyarrow as pa
import torch

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.boxes import BOX_COLUMNS
from stillhouse.data.codecs import decode
from stillhouse.data.crops import boxes_of, cut_many
from stillhouse.data.transforms import cut, normalise, pad, pixels_to_bytes

BOX_FIELDS = [(name, pa.int32()) for name in BOX_COLUMNS]
SCORES_SCHEMA = pa.schema(
    [("image_id", pa.string()), ("crop", pa.int32()), *BOX_FIELDS, ("score", pa.float32())]
)


def preselect(rows, count, seed, class_id):
    """Return `count` random rows, at most all; fewer rows are a prefix of more."""
    order = permutation(generator(seed, "preselect", class_id), len(rows))
    return [rows[i] for i in order[:count]]


def scoring_view(crops, resolution, scoring):
    """Return crops as a teacher's input, (n, 3, resolution, resolution) normalised.

    ``pad``: smaller crops are padded with zeros after normalisation, so that the border has
    ImageNet's mean colour (official code, synthesize/utils.py). ``resize``: they are enlarged.
    `scoring` has no effect, and may be None, if crops have the size of the input.
    """
    if crops.shape[-1] == resolution:
        return normalise(crops)
    if scoring == "pad":
        return pad(normalise(crops), resolution)
    box = torch.tensor([0, 0, crops.shape[-1], crops.shape[-1]]).expand(len(crops), 4)
    return normalise(cut(crops, box.to(crops.device), resolution))


def rank_patches(scores, patches_per_image):
    """Return the best crops of each image, best first: rows of a score table (paper: CCI).

    Ties keep the order of the table. Rows are dicts with the columns of `SCORES_SCHEMA`.
    """
    best = {}
    for row in sorted(scores, key=lambda row: -row["score"]):
        rows_of_image = best.setdefault(row["image_id"], [])
        if len(rows_of_image) < patches_per_image:
            rows_of_image.append(row)
    rows = [row for rows_of_image in best.values() for row in rows_of_image]
    return sorted(rows, key=lambda row: -row["score"])


def assign(n_images, n_patches, assignment, rng):
    """Return the rank of the patch at each position of each image, (n_images, n_patches) integers.

    ``rank_blocks``: position k of image j has rank k · n_images + j (official code). ``random``:
    the best n_images · n_patches ranks, drawn without replacement (paper).
    """
    ranks = np.arange(n_images * n_patches)
    if assignment == "random":
        return permutation(rng, len(ranks)).reshape(n_images, n_patches)
    return ranks.reshape(n_patches, n_images).T


def stitch(patches, resolution):
    """Arrange f × f patches, row by row, in one image.

    Parameters
    ----------
    patches : (f², 3, side, side) uint8 array
    resolution : int
        Side of the image [px]. If f does not divide it, the first rows and columns of patches are
        enlarged by one pixel, by nearest-neighbour sampling.

    Returns
    -------
    (3, resolution, resolution) uint8 array
    """
    factor = round(len(patches) ** 0.5)
    side = patches.shape[-1]
    sizes = [len(part) for part in np.array_split(np.arange(resolution), factor)]
    sources = [np.arange(size) * side // size for size in sizes]
    rows = [
        np.concatenate(
            [patches[r * factor + c][:, sources[r]][:, :, sources[c]] for c in range(factor)],
            axis=2,
        )
        for r in range(factor)
    ]
    return np.concatenate(rows, axis=1)


def stitched_images(rows, images, places, resolution, rounding):
    """Cut patches from source images and stitch them into images.

    Parameters
    ----------
    rows : list of dict
        Patches, with ``image_id`` and the columns of a box.
    images : stillhouse.data.class_images.ClassImages
        Encoded images of the class.
    places : (n_images, f²) integers
        Rows of each image's patches.
    resolution : int
        Side of the images [px].
    rounding : str
        ``truncate`` or ``nearest``.

    Returns
    -------
    list of (pixels, origin)
        (3, resolution, resolution) uint8 arrays, and the boxes of their patches.
    """
    factor = round(places.shape[1] ** 0.5)
    pixels = [decode(images.read(row["image_id"]), row["image_id"]) for row in rows]
    crops = cut_many(pixels, boxes_of(rows), resolution // factor, torch.device("cpu"))
    patches = pixels_to_bytes(crops, rounding)
    origins = [{name: row[name] for name in ("image_id", *BOX_COLUMNS)} for row in rows]
    return [(stitch(patches[ranks], resolution), [origins[i] for i in ranks]) for ranks in places]
