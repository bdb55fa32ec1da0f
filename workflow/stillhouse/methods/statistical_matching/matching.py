"""How far statistics of synthesised images are from those of real ones, over all layers at once.

SRe2L (Yin et al., NeurIPS 2023), section 3.2; G-VBSM (Shao et al., CVPR 2024); EDC (Shao et al.,
NeurIPS 2024), equation 5. Every layer's numbers are columns of one matrix, so that matching takes a
handful of operations, however many layers there are.
"""

from dataclasses import dataclass

import torch

from stillhouse.methods.statistical_matching import statistics


@dataclass(frozen=True)
class Targets:
    """What an observer saw of real images, its parts side by side.

    Parameters
    ----------
    parts : list of stillhouse.methods.statistical_matching.feature_statistics.Part
    part : (columns,) int64
        The part that a column belongs to.
    mean, variance : (columns,) float32
        Of all classes together.
    class_mean, class_variance : (classes, columns) float32, or None
        On the CPU: of a thousand classes, a batch needs the rows of a few.
    """

    parts: list
    part: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    class_mean: torch.Tensor | None = None
    class_variance: torch.Tensor | None = None


def targets(net, moments, kept, settings, device):
    """Return the `Targets` of an observer.

    Parameters
    ----------
    net : torch.nn.Module
        Its batch norms know their inputs' mean and variance over the training of the observer.
    moments : dict of Part to (mean, variance)
        Of any images: parts and their sizes.
    kept : dict of str to tensor, or None
        As `statistics.read` returns them; not needed where batch norms alone are
        matched, regardless of classes.
    settings : dict
        ``class_variance``: ``within`` images, or ``total``; ``tiles``: ``right``, or ``swapped``
        where a class's mean and variance of tiles stand in each other's place (C EDC utils.py).
    device : torch.device
    """
    parts, modules = list(moments), dict(net.named_modules())
    sizes = [moments[part][0].shape[1] for part in parts]
    part_of = torch.arange(len(parts)).repeat_interleave(torch.tensor(sizes))
    whole, by_class = [], []
    for part in parts:
        whole.append(_whole(part, modules[part.layer], kept))
        if settings["alpha"] < 1:
            by_class.append(_by_class(part, kept, settings))
    return Targets(
        parts, part_of.to(device), *_beside(whole, device), *_beside(by_class, torch.device("cpu"))
    )


def _beside(pairs, device):
    """Return the means of all parts side by side, and the variances; nothing of nothing."""
    return [torch.cat(side, -1).float().to(device) for side in zip(*pairs, strict=True)]


def _whole(part, module, kept):
    if part.kind == "batchnorm":
        return module.running_mean.cpu(), module.running_var.cpu()
    mean, within, between = (kept[f"{part.name}.{of}"] for of in ("mean", "within", "between"))
    return statistics.overall(mean, within + between, kept["count"])


def _by_class(part, kept, settings):
    variance = kept[f"{part.name}.within"]
    if settings["class_variance"] == "total":
        variance = variance + kept[f"{part.name}.between"]
    pair = kept[f"{part.name}.mean"], variance
    return pair[::-1] if part.what == "tile" and settings["tiles"] == "swapped" else pair


class Matching:
    """The matching loss of one batch of images for one observer.

    Parameters
    ----------
    targets : Targets
    labels : (n,) int64 tensor
        Class of each image, as rows of the targets.
    settings : dict
        ``alpha``: weight of the statistics of all classes together, 1 - alpha that of the classes'
        own; ``class_terms``: ``mixture`` compares the batch with the mean of its images' classes,
        ``classes`` every class with its own images, weighted by their share; ``class_layers``:
        ``all``, or ``convolution``, which leaves batch norms to the statistics of all classes;
        ``momentum``: share that the statistics of earlier steps keep; ``momentum_start``: before
        the first step they are ``zero``, or ``first``, those of the first step.
    weights : dict
        ``batchnorm``, ``convolution``: of the parts' distances; ``first_layer``: factor on those
        of the first layer.

    Notes
    -----
    The distance of a part is ‖mean - target‖₂ + ‖variance - target‖₂. With momentum μ, the kept u
    becomes μ u + (1 - μ) v with the batch's v, and is compared in its place; the gradient is that
    with respect to v, undamped (G-VBSM; C EDC utils.py).
    """

    def __init__(self, targets, labels, settings, weights):
        self.targets, self.settings = targets, settings
        first = targets.parts[0].layer
        scale = [
            weights[p.kind] * (weights["first_layer"] if p.layer == first else 1)
            for p in targets.parts
        ]
        device = targets.mean.device
        self.weights = torch.tensor(scale, device=device)
        alpha = [self._alpha(part) for part in targets.parts]
        self.alpha = torch.tensor(alpha, dtype=torch.float32, device=device)
        classes, self.group = labels.unique(return_inverse=True)
        member = torch.nn.functional.one_hot(self.group, len(classes)).float()
        self.share = member.mean(0)
        self.average = (member / member.sum(0)).T
        self.by_class = settings["alpha"] < 1
        if self.by_class:
            rows = classes.cpu()
            own = [side[rows].to(device) for side in (targets.class_mean, targets.class_variance)]
            if settings["class_terms"] == "mixture":
                own = [(self.share[:, None] * side).sum(0, keepdim=True) for side in own]
            self.own = own
        self.memory = {}

    def _alpha(self, part):
        layers = self.settings.get("class_layers", "all")
        return (
            1.0 if layers == "convolution" and part.kind == "batchnorm" else self.settings["alpha"]
        )

    def __call__(self, moments, kept=None):
        """Return {kind of layer: weighted distance} of the images' moments, and remember them.

        Parameters
        ----------
        moments : dict of Part to (mean, variance)
            As `Watch` finds them.
        kept : (parts,) tensor, optional
            0 for parts to leave out of this step.
        """
        mean, variance = (torch.cat(side, 1) for side in zip(*moments.values(), strict=True))
        batch = self._remembered("batch", *_together(mean, variance))
        distance = self.alpha * self._distance(batch, (self.targets.mean, self.targets.variance))
        if self.by_class:
            seen = [side[None] for side in batch]
            share = batch[0].new_ones(1)
            if self.settings["class_terms"] == "classes":
                seen, share = (
                    self._remembered("classes", *self._classes(mean, variance)),
                    self.share,
                )
            far = self._distance(seen, self.own)
            distance = distance + (1 - self.alpha) * (far * share[:, None]).sum(0)
        weighted = self.weights * distance
        if kept is not None:
            weighted = weighted * kept
        return self._by_kind(weighted)

    def between(self, moments, others):
        """Return the weighted distance of two batches' statistics, all classes together."""
        mine, theirs = (
            _together(*(torch.cat(side, 1) for side in zip(*found.values(), strict=True)))
            for found in (moments, others)
        )
        return (self.weights * self._distance(mine, theirs)).sum()

    def _classes(self, mean, variance):
        """Return the statistics of each class's images, (classes of the batch, columns)."""
        centre, within = self.average @ mean, self.average @ variance
        if self.settings["class_variance"] == "total":
            within = within + self.average @ (mean - centre[self.group]).square()
        return centre, within

    def _distance(self, found, wanted):
        """Return the distances of all parts, (..., parts)."""
        squares = torch.stack([(a - b).square() for a, b in zip(found, wanted, strict=True)])
        sums = squares.new_zeros(*squares.shape[:-1], len(self.targets.parts))
        sums = sums.index_add(-1, self.targets.part, squares)
        # The root has no slope at zero; a distance of zero has nothing to be moved.
        return sums.clamp(min=1e-24).sqrt().sum(0)

    def _remembered(self, name, *values):
        momentum = self.settings["momentum"]
        if not momentum:
            return values
        found = []
        for side, value in zip(("mean", "variance"), values, strict=True):
            now = value.detach()
            start = torch.zeros_like(now) if self.settings["momentum_start"] == "zero" else now
            kept = self.memory.get(f"{name}.{side}", start).lerp(now, 1 - momentum)
            self.memory[f"{name}.{side}"] = kept
            found.append(value + (kept - now))
        return found

    def _by_kind(self, weighted):
        kinds = [part.kind for part in self.targets.parts]
        return {
            kind: weighted[[i for i, one in enumerate(kinds) if one == kind]].sum()
            for kind in dict.fromkeys(kinds)
        }


def _together(mean, variance):
    """Return mean and variance over images and places, (columns,), from those of each image."""
    centre = mean.mean(0)
    return centre, variance.mean(0) + (mean - centre).square().mean(0)
