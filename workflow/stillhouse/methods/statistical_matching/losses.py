"""The terms that synthesised images minimise, and one descent.

Cross-entropy and statistics: SRe2L (Yin et al., NeurIPS 2023), equations 6 to 8. Densification:
G-VBSM (Shao et al., CVPR 2024). Flatness: EDC (Shao et al., NeurIPS 2024), equations 6 and 7;
vanilla SAM: Foret et al. (ICLR 2021), as its Table 4 compares.
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

from stillhouse.data.boxes import N_DRAWS, random_boxes
from stillhouse.data.transforms import cut
from stillhouse.rng import generator
from stillhouse.training import loop

# Side that images are reduced to [px], and temperature, of densification.
DENSE_SIDE, DENSE_TEMPERATURE = 32, 4


def descend(batch, observer, iteration):
    """Compute an iteration's gradient with respect to a batch's images; return the loss's terms.

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
    show, kept = view(batch, iteration), _kept(batch, observer, iteration)
    if batch.settings["flatness"]["on"] != "sam":
        found = _terms(batch, observer, show, kept)
        sum(found.values()).backward()
        return found
    memory = dict(observer.matching.memory) if observer.matching else {}
    found = _terms(batch, observer, show, kept)
    sum(found.values()).backward()
    there, slope = batch.images.detach().clone(), batch.images.grad
    with torch.no_grad():
        length = slope.norm().clamp(min=1e-12)  # of no slope, no step
        batch.images += batch.settings["flatness"]["weight"] * slope / length
    batch.images.grad = None
    if observer.matching:
        observer.matching.memory = memory
    sum(_terms(batch, observer, show, kept).values()).backward()
    with torch.no_grad():
        batch.images.copy_(there)
    return found


def view(batch, iteration):
    """Return the function that shows images as an iteration sees them: one view for all of them.

    A random resized crop, a flip by chance, a shift down and to the right that wraps around, as in
    SRe2L's code.
    """
    settings, size = batch.settings, batch.images.shape[-1]
    item = f"{batch.keys['batch']} {iteration}"
    rng = generator(batch.keys["seed"], "synthesis view", item=item)
    draws = rng.random(N_DRAWS + 3)
    shift = [int(share * (settings["jitter"] + 1)) for share in draws[1:3]]
    box = torch.from_numpy(random_boxes(draws[None, 3:], size, size, settings["crop"]))
    flip = torch.tensor([bool(draws[0] < settings["flip"])])
    device = batch.images.device

    def show(images):
        seen = cut(images, box.to(device), size, flip.to(device))
        if any(shift):
            seen = seen.roll(shift, (2, 3))
        return seen.contiguous(memory_format=loop.memory_format(settings))

    return show


def _kept(batch, observer, iteration):
    """Return which parts are matched in an iteration, (parts,), or None for all of them.

    Each convolution is left out by chance (G-VBSM, Appendix; C: beta_dr).
    """
    share = batch.settings["convolution_dropout"]
    if not share or observer.matching is None:
        return None
    item = f"{batch.keys['batch']} {iteration}"
    rng, drawn = generator(batch.keys["seed"], "synthesis dropout", item=item), {}
    for part in observer.matching.targets.parts:
        if part.kind == "convolution" and part.layer not in drawn:
            drawn[part.layer] = float(rng.random() >= share)
    flags = [drawn.get(part.layer, 1.0) for part in observer.matching.targets.parts]
    return torch.tensor(flags, device=batch.images.device)


def _terms(batch, observer, show, kept):
    settings = batch.settings
    weights, flatness = settings["weights"], settings["flatness"]
    # Cut outside of autocast, both of them.
    seen = show(batch.images)
    average = None if batch.average is None else show(batch.average)
    with loop.autocast(settings, seen.device):
        logits, moments = observer(seen)
    found = {"cross_entropy": weights["cross_entropy"] * cross_entropy(logits, batch.labels)}
    if observer.matching:
        found |= observer.matching(moments, kept)
    if weights["densification"]:
        found["densification"] = weights["densification"] * density(seen, batch.alike)
    if flatness["on"] == "logits":
        with torch.no_grad(), loop.autocast(settings, seen.device):
            others = observer.logits(average)
        found["flatness"] = flatness["weight"] * divergence(logits, others, flatness["temperature"])
    if flatness["on"] == "statistics":
        with torch.no_grad(), loop.autocast(settings, seen.device):
            _, theirs = observer(average)
        found["flatness"] = flatness["weight"] * observer.matching.between(moments, theirs)
    return found


def divergence(logits, others, temperature):
    """Return the divergence of softened outputs from those for averaged images (EDC, equation 7).

    KL(softmax(others / T) ‖ softmax(logits / T)), divided by images and by classes.

    Notes
    -----
    paper: the other way round, and no word on what is averaged; here: as C EDC's branch for
    CIFAR-10 does it, because the weights that the paper compares are of that scale.
    """
    mine, theirs = log_softmax(logits / temperature, 1), softmax(others / temperature, 1)
    return kl_div(mine, theirs, reduction="sum") / logits.numel()


def alike(labels):
    """Return the rows of the images of each class that has several, one tensor a number of them.

    Parameters
    ----------
    labels : (n,) int64 tensor

    Returns
    -------
    list of (classes, images of each) int64 tensors
    """
    counts = labels.bincount()
    return [
        torch.stack([(labels == label).nonzero()[:, 0] for label in (counts == count).nonzero()])
        for count in counts[counts > 1].unique()
    ]


def density(images, groups):
    """Return G-VBSM's data densification: how far the images of a class are from being alike.

    With l the eigenvalues of the Gram matrix of a class's images, each reduced to 32 px,
    KL(softmax(l / 4) ‖ softmax(l)), summed over classes; the softened side is taken as given, as in
    C. Zero where every class has one image.

    Parameters
    ----------
    images : (n, 3, side, side)
    groups : list of tensors
        As `alike` returns them.
    """
    flat = _reduced(images.float()).flatten(1)
    total = flat.new_zeros(())
    for rows in groups:
        some = flat[rows]
        values = torch.linalg.eigvalsh(some @ some.transpose(1, 2))
        soft = log_softmax(values.detach() / DENSE_TEMPERATURE, 1)
        total = total + (soft.exp() * (soft - log_softmax(values, 1))).sum()
    return total


def _reduced(images):
    """Return images of at most 32 px a side; where that divides theirs, adding up in one order."""
    size = images.shape[-1]
    if size % DENSE_SIDE == 0:
        return avg_pool2d(images, size // DENSE_SIDE)
    return adaptive_avg_pool2d(images, min(DENSE_SIDE, size))
