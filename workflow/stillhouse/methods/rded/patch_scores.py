"""Patch scores: log-probabilities of random crops by a teacher (RDED).

Sun et al., "On the Diversity and Realism of Distilled Dataset" (CVPR 2024), Algorithm 1 and
supplement section C.2; official code LINs-lab/RDED at 3f6453d, synthesize/.
"""

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import cross_entropy

from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import BOX_COLUMNS, N_DRAWS, random_boxes
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.crops import cut_many
from stillhouse.methods.common.patches import SCORES_SCHEMA, preselect, scoring_view
from stillhouse.networks.batchnorm import fold_batchnorm
from stillhouse.training import loop
from stillhouse.training.teachers import load_teacher


def patch_scores(inputs, spec, context):
    """Stage: score K random crops of T' images of each class (paper: key-patch extraction)."""
    return PatchScores(inputs, spec, context)


class PatchScores:
    """Patch scores of a teacher, computed class by class."""

    def __init__(self, inputs, spec, context):
        self.settings, self.seed = spec["settings"], spec["keys"]["seed"]
        self.images = inputs["images"]
        self.teacher = load_teacher(inputs["teacher"], context.torch_device())
        self.net = fold_batchnorm(self.teacher.net)

    def __call__(self, class_id, context):
        """Return the file of scores of one class."""
        rows = read_class(self.images[class_id], "train", context.source_roots)
        table = score_class(
            preselect(rows, self.settings["images_per_class"], self.seed, class_id),
            self.net,
            int(self.teacher.columns([class_id])),
            self.teacher.resolution,
            self.settings,
            (self.seed, class_id),
            context.batch_size,
        )
        return {"scores.parquet": table}


def score_class(rows, net, label, resolution, settings, address, batch_size):
    """Score random square crops by the teacher's log-probability of their class.

    Parameters
    ----------
    rows : list of (image id, bytes)
    net : torch.nn.Module
        The teacher, in evaluation mode, on its device.
    label : int
        Position of the class in the teacher's outputs.
    resolution : int
        Side of the teacher's input [px].
    settings : dict
        ``crops_per_image``, ``patches_per_side``, ``crop``; ``scoring`` of several patches per
        side.
    address : (int, str)
        Seed and class id of the random numbers, which also depend on the image id.
    batch_size : int
        Crops per forward pass.

    Returns
    -------
    pyarrow.Table with `SCORES_SCHEMA`: one row per crop; ``score`` is log softmax(logits)[label],
    the negative of the cross-entropy, in nats (paper: s = -ℓ).
    """
    count, device = settings["crops_per_image"], next(net.parameters()).device
    side = resolution // settings["patches_per_side"]
    step = max(batch_size // count, 1)
    boxes, scores = [], []
    starts = range(0, len(rows), step)
    for first in track(starts, len(starts), f"{address[1]}: batches scored"):
        batch = rows[first : first + step]
        pixels = [decode(data, name) for name, data in batch]
        batch_boxes = [
            random_squares(address, name, image.shape[1:], settings)
            for (name, _), image in zip(batch, pixels, strict=True)
        ]
        crops = cut_many(pixels, batch_boxes, side, device)
        inputs = scoring_view(crops, resolution, settings.get("scoring"))
        outputs = loop.logits(net, inputs, batch_size, lambda part: part)
        labels = torch.full((len(outputs),), label, device=device)
        scores.append(-cross_entropy(outputs, labels, reduction="none").cpu().numpy())
        boxes += batch_boxes
    columns = dict(zip(BOX_COLUMNS, np.concatenate(boxes).T, strict=True))
    columns["image_id"] = [name for name, _ in rows for _ in range(count)]
    columns["crop"] = list(range(count)) * len(rows)
    return pa.table({**columns, "score": np.concatenate(scores)}, schema=SCORES_SCHEMA)


def random_squares(address, name, size, settings):
    """Return the random square boxes of one image, (crops_per_image, 4) int64."""
    seed, class_id = address
    draws = generator(seed, "crops", class_id, name).random((settings["crops_per_image"], N_DRAWS))
    return random_boxes(draws, *size, settings["crop"], ratio=(1, 1))
