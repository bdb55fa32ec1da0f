"""The losses of synthesised images, and their gradients.

Cross-entropy and statistics: SRe2L (Yin et al., NeurIPS 2023), equations 6 to 8. Densification:
G-VBSM (Shao et al., CVPR 2024). Flatness: EDC (Shao et al., NeurIPS 2024), equations 6 and 7;
vanilla SAM: Foret et al. (ICLR 2021), compared in EDC's Table 4.
"""

import torch
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    cross_entropy,
    kl_div,
    log_softmax,
    softmax,
)

from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import N_DRAWS, random_boxes
from stillhouse.data.transforms import cut
from stillhouse.training import loop
from stillhouse.training.lr_schedules import half_cosine

# Densification: side of the reduced images [px], and temperature.
DENSE_SIDE, DENSE_TEMPERATURE = 32, 4


def backward(batch, observer, iteration):
    """Compute the gradient of an iteration with respect to a batch's images; return the losses.

    Parameters
    ----------
    batch : stillhouse.methods.statistical_matching.synthesis.Batch
    observer : stillhouse.methods.statistical_matching.observers.Observer
    iteration : int

    Returns
    -------
    dict of str to scalar tensor
        Weighted.
    """
    augment, included = view(batch, iteration), _included(batch, observer, iteration)
    if batch.settings["flatness"]["kind"] == "sam":
        return _sam_backward(batch, observer, augment, included)
    losses = _losses(batch, observer, augment, included)
    sum(losses.values()).backward()
    return losses


def _sam_backward(batch, observer, augment, included):
    """Compute the gradient at the worst nearby point (SAM); return the losses at the images."""
    memory = dict(observer.matching.memory) if observer.matching else {}
    losses = _losses(batch, observer, augment, included)
    sum(losses.values()).backward()
    images, gradient = batch.images.detach().clone(), batch.images.grad
    with torch.no_grad():
        norm = gradient.norm().clamp(min=1e-12)  # no step along a gradient of zero
        batch.images += batch.settings["flatness"]["weight"] * gradient / norm
    batch.images.grad = None
    if observer.matching:
        observer.matching.memory = memory
    sum(_losses(batch, observer, augment, included).values()).backward()
    with torch.no_grad():
        batch.images.copy_(images)
    return losses


def view(batch, iteration):
    """Return the function that augments images in an iteration, all images in the same way.

    A random resized crop, a random flip, and a random cyclic shift downwards and to the right, as
    in SRe2L's code.
    """
    settings, size = batch.settings, batch.images.shape[-1]
    item = f"{batch.keys['batch']} {iteration}"
    rng = generator(batch.keys["seed"], "synthesis view", item=item)
    draws = rng.random(N_DRAWS + 3)
    shift = [int(share * (settings["shift"] + 1)) for share in draws[1:3]]
    box = torch.from_numpy(random_boxes(draws[None, 3:], size, size, crop_at(settings, iteration)))
    flip = torch.tensor([bool(draws[0] < settings["flip"])])
    device = batch.images.device

    def augment(images):
        views = cut(images, box.to(device), size, flip.to(device))
        if any(shift):
            views = views.roll(shift, (2, 3))
        return views.contiguous(memory_format=loop.memory_format(settings))

    return augment


def crop_at(settings, iteration):
    """Return the smallest and largest area of the crop in an iteration, as shares of the image.

    With a curriculum, the smallest area begins as the largest and falls to that of ``crop`` (CDA,
    Yin & Shen, TMLR 2024; C VILA-Lab/SRe2L at 2e346ff, recover_cda_in1k.py).

    Parameters
    ----------
    settings : dict
        ``crop``; ``iterations``; optionally ``curriculum``, with ``kind`` (step, linear, cosine)
        and ``share``, of the iterations until the smallest area is that of ``crop``.
    iteration : int
    """
    (smallest, largest), curriculum = settings["crop"], settings.get("curriculum")
    if curriculum is None:
        return smallest, largest
    progress = iteration / (curriculum["share"] * settings["iterations"])
    if progress >= 1:
        return smallest, largest
    factors = {"step": 1.0, "linear": 1 - progress, "cosine": half_cosine(progress)}
    return smallest + (largest - smallest) * factors[curriculum["kind"]], largest


def _included(batch, observer, iteration):
    """Return a mask of the statistics matched in an iteration, (statistics,); None for all.

    Each convolution is dropped at random (G-VBSM, Appendix; C: beta_dr).
    """
    share = batch.settings["convolution_dropout"]
    if not share or observer.matching is None:
        return None
    item = f"{batch.keys['batch']} {iteration}"
    rng, drawn = generator(batch.keys["seed"], "synthesis dropout", item=item), {}
    statistics = observer.matching.targets.statistics
    for statistic in statistics:
        if statistic.kind == "convolution" and statistic.layer not in drawn:
            drawn[statistic.layer] = float(rng.random() >= share)
    flags = [drawn.get(statistic.layer, 1.0) for statistic in statistics]
    return torch.tensor(flags, device=batch.images.device)


def _losses(batch, observer, augment, included):
    settings = batch.settings
    weights, flatness = settings["loss_weights"], settings["flatness"]
    # Both are augmented outside of autocast.
    views = augment(batch.images)
    average = None if batch.average is None else augment(batch.average)
    with loop.autocast(settings, views.device):
        logits, recorded = observer(views)
    losses = {"cross_entropy": weights["cross_entropy"] * cross_entropy(logits, batch.labels)}
    if observer.matching:
        losses |= observer.matching(recorded, included)
    if weights["densification"]:
        dense = densification(views, batch.same_class)
        losses["densification"] = weights["densification"] * dense
    if flatness["kind"] == "logits":
        with torch.no_grad(), loop.autocast(settings, views.device):
            others = observer.logits(average)
        flat = logit_flatness(logits, others, flatness["temperature"])
        losses["flatness"] = flatness["weight"] * flat
    if flatness["kind"] == "statistics":
        with torch.no_grad(), loop.autocast(settings, views.device):
            _, of_average = observer(average)
        losses["flatness"] = flatness["weight"] * observer.matching.between(recorded, of_average)
    return losses


def logit_flatness(logits, others, temperature):
    """Return the divergence of softened outputs from those of averaged images (EDC, equation 7).

    KL(softmax(others / T) ‖ softmax(logits / T)), divided by images and by classes.

    Notes
    -----
    paper: the arguments are swapped and the reduction is not specified; here: as in C EDC's branch
    for CIFAR-10, because the weights that the paper compares have that scale.
    """
    own, target = log_softmax(logits / temperature, 1), softmax(others / temperature, 1)
    return kl_div(own, target, reduction="sum") / logits.numel()


def same_class_groups(labels):
    """Return the rows of each class with several images, one tensor per number of images.

    Parameters
    ----------
    labels : (n,) int64 tensor

    Returns
    -------
    list of (classes, images per class) int64 tensors
    """
    counts = labels.bincount()
    return [
        torch.stack([(labels == label).nonzero()[:, 0] for label in (counts == count).nonzero()])
        for count in counts[counts > 1].unique()
    ]


def densification(images, groups):
    """Return G-VBSM's data densification, a joint loss of the images of each class.

    KL(softmax(l / 4) ‖ softmax(l)), summed over classes, where l are the eigenvalues of the Gram
    matrix of a class's images, reduced to 32 px. The softened side is constant, as in C. Zero if
    every class has one image.

    Parameters
    ----------
    images : (n, 3, side, side)
    groups : list of tensors
        See `same_class_groups`.
    """
    flat = _reduced(images.float()).flatten(1)
    total = flat.new_zeros(())
    for rows in groups:
        vectors = flat[rows]
        values = torch.linalg.eigvalsh(vectors @ vectors.transpose(1, 2))
        soft = log_softmax(values.detach() / DENSE_TEMPERATURE, 1)
        total = total + (soft.exp() * (soft - log_softmax(values, 1))).sum()
    return total


def _reduced(images):
    """Return images reduced to at most 32 px; for multiples of 32 px with a fixed order of sums."""
    size = images.shape[-1]
    if size % DENSE_SIDE == 0:
        return avg_pool2d(images, size // DENSE_SIDE)
    return adaptive_avg_pool2d(images, min(DENSE_SIDE, size))
