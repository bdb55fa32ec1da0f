"""Feature statistics of a teacher's layers over a dataset: targets of synthesised images.

EDC (Shao et al., NeurIPS 2024), section 3.2; the choice of statistics follows G-VBSM (Shao et al.,
CVPR 2024). One pass over the training images, class by class; global statistics are derived from
those of the classes.
"""

import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import N_DRAWS, padded_boxes, random_boxes
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import cut, normalise
from stillhouse.methods.statistical_matching.feature_statistics import KINDS, StatisticsRecorder
from stillhouse.training.teachers import load_teacher

SUMS = ("mean", "square", "variance")


def statistics(inputs, spec, context):
    """Stage: compute the statistics of the inputs of a teacher's layers, per class."""

    def make(member, context):
        teacher = load_teacher(inputs["teacher"], context.torch_device())
        recorder = StatisticsRecorder(teacher.net, set(KINDS.values()), spec["settings"]["tile"])
        sums = class_sums(recorder, inputs["images"], teacher.resolution, spec["settings"], context)
        return {"statistics.safetensors": summary(sums)}

    return make


def class_sums(recorder, files, resolution, settings, context):
    """Return the sums of `sum_statistics` of all classes, (classes, ...) each.

    Parameters
    ----------
    recorder : StatisticsRecorder
    files : dict of str to Path
        Encoded images by class id.
    resolution : int
        Side of the network's input [px].
    settings : dict
        ``classes``, ``views``.
    context : stillhouse.artifacts.context.Context
        With a checkpoint in its ``work``, the job resumes after a class.
    """
    classes, checkpoint, device = settings["classes"], Checkpoint(context), context.torch_device()
    stored, values = checkpoint.resume("statistics", "class") or ({}, {"done": 0})
    sums = {name: list(rows) for name, rows in stored.items()}
    done = values["done"]
    remaining = classes[done:]
    for class_id in track(remaining, len(remaining), "classes"):
        images, _ = load_split(files, [class_id], resolution, "train", context.source_roots)
        views = training_views(images, settings["views"], class_id, context.batch_size, device)
        for name, value in sum_statistics(recorder, views).items():
            sums.setdefault(name, []).append(value)
        done += 1
        if checkpoint.due():
            checkpoint.save(
                {name: torch.stack(rows) for name, rows in sums.items()}, {"done": done}
            )
    return {name: torch.stack(rows) for name, rows in sums.items()}


def training_views(images, settings, class_id, batch_size, device):
    """Yield one view of each image, augmented as in the training of teachers, in batches.

    Parameters
    ----------
    images : (n, 3, size, size) uint8
    settings : dict
        ``pad``: width of a black border [px], before a random crop of the image's size; for 0,
        ``crop``: smallest and largest area of a random resized crop; ``flip``: probability of
        mirroring; ``seed``.
    class_id : str
    batch_size : int
        Has no effect on the views.
    device : torch.device
        Device of the augmentation.

    Yields
    ------
    (up to batch_size, 3, size, size) float32 in [0, 255]
    """
    n, size = len(images), images.shape[-1]
    draws = generator(settings["seed"], "statistics", class_id).random((n, N_DRAWS + 1))
    flip = torch.from_numpy(draws[:, 0] < settings["flip"])
    if settings["pad"]:
        boxes = padded_boxes(draws[:, 1:3], size, settings["pad"])
    else:
        boxes = random_boxes(draws[:, 1:], size, size, settings["crop"])
    rows = (images, torch.from_numpy(boxes), flip)
    for batch in zip(*(tensor.split(batch_size) for tensor in rows), strict=True):
        pixels, box, mirrored = (tensor.to(device) for tensor in batch)
        yield cut(pixels, box, size, mirrored)


@torch.no_grad()
def sum_statistics(recorder, views):
    """Return sums over images of the recorded means, of their squares and of the variances.

    Parameters
    ----------
    recorder : StatisticsRecorder
    views : iterable of (n, 3, size, size) in [0, 255]
        On the network's device.

    Returns
    -------
    dict of str to (channels or tiles,) float64
        By ``<statistic>.mean``, ``.square`` (of the means) and ``.variance``; ``count`` (1,).
    """
    sums = {"count": torch.zeros(1, dtype=torch.float64)}
    for batch in views:
        sums["count"] += len(batch)
        _, recorded = recorder(normalise(batch))
        for statistic, (mean, variance) in recorded.items():
            mean, variance = mean.double(), variance.double()
            for name, value in zip(SUMS, (mean, mean.square(), variance), strict=True):
                total = sums.get(f"{statistic.name}.{name}", 0)
                sums[f"{statistic.name}.{name}"] = total + value.sum(0).cpu()
    return sums


def summary(sums):
    """Return the statistics of all classes from their sums.

    Parameters
    ----------
    sums : dict of str to (classes, ...) float64
        See `sum_statistics`; one row per class.

    Returns
    -------
    dict of str to tensor
        Float32. ``count`` (classes,), images of each class; ``<statistic>.mean``, (classes,
        channels or tiles), over a class's images and positions; ``<statistic>.within``, the mean
        over images of the variance within an image; ``<statistic>.between``, the variance over
        images of the mean of an image. The variance over images and positions is the sum of both.
    """
    count = sums["count"]
    values = {"count": count[:, 0]}
    for statistic in [name.removesuffix(".mean") for name in sums if name.endswith(".mean")]:
        mean, square, variance = (sums[f"{statistic}.{name}"] / count for name in SUMS)
        values |= {
            f"{statistic}.mean": mean,
            f"{statistic}.within": variance,
            f"{statistic}.between": (square - mean.square()).clamp(min=0),
        }
    return {name: value.float() for name, value in values.items()}


def read_statistics(path, classes):
    """Return the statistics of selected classes, see `summary`, in float64.

    Parameters
    ----------
    path : Path
        A ``statistics.safetensors``.
    classes : list of str
    """
    stored_classes = store.read_spec(path.parent)["settings"]["classes"]
    rows = torch.tensor([stored_classes.index(class_id) for class_id in classes])
    return {name: value[rows].double() for name, value in store.read_tensors(path).items()}


def overall(mean, variance, count):
    """Return global mean and variance, (k,), from those of each class, (classes, k)."""
    share = (count / count.sum())[:, None]
    centre = (share * mean).sum(0)
    return centre, (share * (variance + (mean - centre).square())).sum(0)
