"""Statistics of a teacher's layers over a dataset: what synthesised images are to match.

EDC (Shao et al., NeurIPS 2024), section 3.2; what is collected follows G-VBSM (Shao et al., CVPR
2024). From one pass over the training images, class by class; global statistics follow from those
of the classes.
"""

import numpy as np
import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.data.boxes import N_DRAWS, random_boxes
from stillhouse.data.class_images import load_split
from stillhouse.data.transforms import cut, normalise
from stillhouse.methods.statistical_matching.feature_statistics import KINDS, Watch
from stillhouse.rng import generator
from stillhouse.training.loop import SideFile
from stillhouse.training.teachers import load_teacher

SUMS = ("mean", "square", "variance")


def statistics(inputs, spec, context):
    """Stage: collect the moments of the inputs of a teacher's layers, of every class."""
    settings, device = spec["settings"], context.torch_device()
    files = inputs["images"]

    def make(key, context):
        net, _, resolution = load_teacher(inputs["teacher"], device)
        watch = Watch(net, set(KINDS.values()), settings["tile"])
        side = SideFile(context)
        stored, done = side.load() or ({}, 0)
        sums = {name: list(rows) for name, rows in stored.items()}
        for class_id in track(
            settings["classes"][done:], len(settings["classes"]) - done, "classes"
        ):
            images, _ = load_split(files, [class_id], resolution, "train", context.source_roots)
            views = seen(images, settings["views"], class_id, context.batch_size, device)
            for name, value in collect(watch, views).items():
                sums.setdefault(name, []).append(value)
            done += 1
            if side.due():
                side.save({name: torch.stack(rows) for name, rows in sums.items()}, done)
        return {
            "statistics.safetensors": summary({n: torch.stack(rows) for n, rows in sums.items()})
        }

    return make


def seen(images, settings, class_id, batch_size, device):
    """Yield one view of each image, as teachers see images while they are trained, in batches.

    Parameters
    ----------
    images : (n, 3, size, size) uint8
    settings : dict
        ``pad``: black border that a square of the image's size is cut from [px], and with 0
        ``crop``: smallest and largest area of a random resized crop; ``flip``: share that is
        mirrored; ``seed``.
    class_id : str
    batch_size : int
        Views of an image do not depend on it.
    device : torch.device
        On which they are cut.

    Yields
    ------
    (up to batch_size, 3, size, size) float32 in [0, 255]
    """
    n, size, pad = len(images), images.shape[-1], settings["pad"]
    draws = generator(settings["seed"], "statistics", class_id).random((n, N_DRAWS + 1))
    flip = torch.from_numpy(draws[:, 0] < settings["flip"])
    if pad:
        corners = np.floor(draws[:, 1:3] * (2 * pad + 1)).astype(np.int64)
        boxes = np.concatenate([corners, np.full((n, 2), size)], 1)
    else:
        boxes = random_boxes(draws[:, 1:], size, size, settings["crop"])
    parts = (images, torch.from_numpy(boxes), flip)
    for some in zip(*(part.split(batch_size) for part in parts), strict=True):
        pixels, box, mirrored = (part.to(device) for part in some)
        yield cut(torch.nn.functional.pad(pixels, (pad,) * 4), box, size, mirrored)


@torch.no_grad()
def collect(watch, views):
    """Return sums over images: of the moments that a `Watch` finds, and of their squares.

    Parameters
    ----------
    watch : Watch
    views : iterable of (n, 3, size, size) in [0, 255]
        On the network's device.

    Returns
    -------
    dict of str to (channels or tiles,) float64
        By ``<part>.mean``, ``.square`` (of the means) and ``.variance``; ``count`` (1,).
    """
    sums = {"count": torch.zeros(1, dtype=torch.float64)}
    for batch in views:
        sums["count"] += len(batch)
        _, moments = watch(normalise(batch))
        for part, (mean, variance) in moments.items():
            mean, variance = mean.double(), variance.double()
            for name, value in zip(SUMS, (mean, mean.square(), variance), strict=True):
                total = sums.get(f"{part.name}.{name}", 0)
                sums[f"{part.name}.{name}"] = total + value.sum(0).cpu()
    return sums


def summary(sums):
    """Return what is kept of the sums of all classes.

    Parameters
    ----------
    sums : dict of str to (classes, ...) float64
        What `collect` returns of each class, one class after the other.

    Returns
    -------
    dict of str to tensor
        ``count`` (classes,), images of each class; ``<part>.mean``, (classes, channels or tiles),
        over a class's images and places; ``<part>.within``, the mean over images of the variance
        within one; ``<part>.between``, the variance over images of the mean of one. Float32. The
        variance over images and places together is the sum of both.
    """
    count = sums["count"]
    found = {"count": count[:, 0]}
    for part in [name.removesuffix(".mean") for name in sums if name.endswith(".mean")]:
        mean, square, variance = (sums[f"{part}.{name}"] / count for name in SUMS)
        found |= {
            f"{part}.mean": mean,
            f"{part}.within": variance,
            f"{part}.between": (square - mean.square()).clamp(min=0),
        }
    return {name: value.float() for name, value in found.items()}


def read(path, classes):
    """Return the statistics of some classes, as `summary` returns them, in float64.

    Parameters
    ----------
    path : Path
        A ``statistics.safetensors``.
    classes : list of str
    """
    there = store.read_spec(path.parent)["settings"]["classes"]
    rows = torch.tensor([there.index(class_id) for class_id in classes])
    return {name: value[rows].double() for name, value in store.read_tensors(path).items()}


def overall(mean, variance, count):
    """Return mean and variance of all classes together, (k,), from those of each, (classes, k)."""
    share = (count / count.sum())[:, None]
    centre = (share * mean).sum(0)
    return centre, (share * (variance + (mean - centre).square())).sum(0)
