"""RDED: patches that a teacher finds most realistic, stitched into images.

Sun et al., "On the Diversity and Realism of Distilled Dataset" (CVPR 2024), Algorithm 1 and
supplement section C.2; official code LINs-lab/RDED at 3f6453d, synthesize/.
"""

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import cross_entropy

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.data.boxes import BOX_COLUMNS, N_DRAWS, random_boxes
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.crops import boxes_of, cut_many
from stillhouse.data.transforms import cut, normalise, pad, pixels_to_bytes
from stillhouse.methods.common.selection import choose, read_features
from stillhouse.networks.batchnorm import fold_batchnorm
from stillhouse.rng import generator, permutation
from stillhouse.training import loop
from stillhouse.training.teachers import load_teacher

SCORES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("crop", pa.int32()),
        ("top", pa.int32()),
        ("left", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("score", pa.float32()),
    ]
)


def patch_scores(inputs, spec, context):
    """Stage: score K random crops of T' images of each class (paper: key-patch extraction)."""
    settings, seed = spec["settings"], spec["keys"]["seed"]
    device = context.torch_device()
    path = inputs["teacher"]
    net, classes, resolution = load_teacher(path, device)
    net = fold_batchnorm(net)
    image_files = inputs["images"]

    def make(class_id, context):
        rows = read_class(image_files[class_id], "train", context.source_roots)
        chosen = preselect(rows, settings["images_per_class"], seed, class_id)
        label = classes.index(class_id)
        table = score_class(
            chosen, net, label, resolution, settings, seed, class_id, context.batch_size, device
        )
        return {"scores.parquet": table}

    return make


def preselect(rows, count, seed, class_id):
    """Return `count` of the images at random; all where there are fewer. A prefix of any more."""
    order = permutation(generator(seed, "preselect", class_id), len(rows))
    return [rows[i] for i in order[:count]]


def score_class(rows, net, label, resolution, settings, seed, class_id, batch_size, device):
    """Score random square crops by how surely the teacher sees their class.

    Parameters
    ----------
    rows : list of (image id, bytes)
    net : torch.nn.Module
        The teacher, in evaluation mode.
    label : int
        Position of the class in the teacher's outputs.
    resolution : int
        Side of the teacher's input [px].
    settings : dict
        ``crops_per_image``, ``patches_per_side``, ``crop``, ``scoring``.
    seed, class_id
        Address of the random numbers; each image has its own.
    batch_size : int
        Crops a forward pass.

    Returns
    -------
    pyarrow.Table with `SCORES_SCHEMA`: one row a crop; ``score`` is log softmax(logits)[label],
    the negative of the cross-entropy, in nats (paper: s = -ℓ).
    """
    count = settings["crops_per_image"]
    side = resolution // settings["patches_per_side"]
    step = max(batch_size // count, 1)
    boxes, scores = [], []
    starts = range(0, len(rows), step)
    for first in track(starts, len(starts), f"{class_id}: batches scored"):
        some = rows[first : first + step]
        pixels = [decode(data, name) for name, data in some]
        some_boxes = [
            random_boxes(
                generator(seed, "crops", class_id, name).random((count, N_DRAWS)),
                *image.shape[1:],
                settings["crop"],
                ratio=(1, 1),
            )
            for (name, _), image in zip(some, pixels, strict=True)
        ]
        crops = cut_many(pixels, some_boxes, side, device)
        inputs = scoring_view(crops, resolution, settings["scoring"])
        outputs = loop.logits(net, inputs, batch_size, lambda part: part)
        wanted = torch.full((len(outputs),), label, device=device)
        scores.append(-cross_entropy(outputs, wanted, reduction="none").cpu().numpy())
        boxes += some_boxes
    table = np.concatenate(boxes)
    return pa.table(
        {
            "image_id": [name for name, _ in rows for _ in range(count)],
            "crop": list(range(count)) * len(rows),
            **{name: table[:, i] for i, name in enumerate(BOX_COLUMNS)},
            "score": np.concatenate(scores),
        },
        schema=SCORES_SCHEMA,
    )


def scoring_view(crops, resolution, scoring):
    """Return crops as the teacher judges them, (n, 3, resolution, resolution) normalised.

    ``pad``: smaller crops lie in zeros, put around them after normalisation, so that the border
    has ImageNet's mean colour (official code, synthesize/utils.py). ``resize``: they are enlarged.
    """
    if crops.shape[-1] == resolution:
        return normalise(crops)
    if scoring == "pad":
        return pad(normalise(crops), resolution)
    whole = torch.tensor([0, 0, crops.shape[-1], crops.shape[-1]]).expand(len(crops), 4)
    return normalise(cut(crops, whole.to(crops.device), resolution))


def rank_patches(scores, patches_per_image):
    """Return the best crops of each image, best first: rows of a score table (paper: CCI).

    Ties keep the order of the table. Rows are dicts with the columns of `SCORES_SCHEMA`.
    """
    best = {}
    for row in sorted(scores, key=lambda row: -row["score"]):
        kept = best.setdefault(row["image_id"], [])
        if len(kept) < patches_per_image:
            kept.append(row)
    rows = [row for kept in best.values() for row in kept]
    return sorted(rows, key=lambda row: -row["score"])


def assign(n_images, n_patches, assignment, rng):
    """Return which rank each place of each image takes, (n_images, n_patches) integers.

    ``rank_blocks``: place k of image j takes rank k · n_images + j (official code). ``random``:
    the best n_images · n_patches, drawn without replacement (paper).
    """
    ranks = np.arange(n_images * n_patches)
    if assignment == "random":
        return permutation(rng, len(ranks)).reshape(n_images, n_patches)
    return ranks.reshape(n_patches, n_images).T


def stitch(patches, resolution):
    """Put f × f patches, row by row, into one image.

    Parameters
    ----------
    patches : (f², 3, side, side) uint8 array
    resolution : int
        Side of the image [px]. Where f does not divide it, the first rows and columns of patches
        get one pixel more, by nearest-neighbour sampling.

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


def select(ranked, count, settings, inputs, seed, class_id):
    """Return `count` of the ranked patches by the strategy of ``selection`` (RDED, Table 9).

    ``realism``: the best; ``random``: any; ``herding``, ``kmeans``: by the teacher's features.
    """
    strategy = settings.get("selection", "realism")
    if strategy == "realism":
        return ranked[:count]
    rng = generator(seed, "selection", class_id)
    if strategy == "random":
        return [ranked[i] for i in permutation(rng, len(ranked))[:count]]
    found = read_features(inputs["features"][class_id])
    points = np.stack([found[row["image_id"], row["crop"]] for row in ranked])
    return [ranked[i] for i in choose(strategy, points, min(count, len(ranked)), rng)]


def distil_class(inputs, spec, class_id, context):
    """Return the images of one class: [(pixels, origin)], see `stillhouse.methods.distilled`."""
    settings, wanted, seed = spec["settings"], spec["keys"]["ipc"], spec["keys"]["seed"]
    resolution, factor = settings["resolution"], settings["patches_per_side"]
    ipc = settings.get("nested_in", wanted)
    scores = store.read_table(inputs["scores"][class_id], schema=SCORES_SCHEMA).to_pylist()
    ranked = rank_patches(scores, settings["patches_per_image"])
    ranked = select(ranked, ipc * factor**2, settings, inputs, seed, class_id)
    ipc = len(ranked) // factor**2
    rows = read_class(inputs["images"][class_id], "train", context.source_roots)
    boxes = boxes_of(ranked)
    pixels = [decode(rows.read(row["image_id"]), row["image_id"]) for row in ranked]
    crops = cut_many(pixels, boxes, resolution // factor, torch.device("cpu"))
    patches = pixels_to_bytes(crops, settings["rounding"])
    rng = generator(seed, "assignment", class_id)
    places = assign(ipc, factor**2, settings["assignment"], rng)
    fields = ("image_id", *BOX_COLUMNS)
    return [
        (stitch(patches[ranks], resolution), [{k: ranked[i][k] for k in fields} for i in ranks])
        for ranks in places[:wanted]
    ]
