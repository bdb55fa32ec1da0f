"""Distance between the statistics of synthesised and of real images, for all layers at once.

SRe2L (Yin et al., NeurIPS 2023), section 3.2; G-VBSM (Shao et al., CVPR 2024); EDC (Shao et al.,
NeurIPS 2024), equation 5. The statistics of all layers are columns of one matrix, so that matching
takes few operations for any number of layers.
"""

from dataclasses import dataclass

import torch

from stillhouse.methods.statistical_matching import statistics


@dataclass(frozen=True)
class Targets:
    """An observer's statistics of real images, concatenated over all layers.

    Parameters
    ----------
    statistics : list of stillhouse.methods.statistical_matching.feature_statistics.LayerStatistic
    index : (columns,) int64
        Statistic of each column.
    mean, variance : (columns,) float32
        Over all classes.
    class_mean, class_variance : (classes, columns) float32, or None
        On the CPU, since a batch needs the rows of few classes.
    """

    statistics: list
    index: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    class_mean: torch.Tensor | None = None
    class_variance: torch.Tensor | None = None


def targets(net, recorded, stored, settings, device):
    """Return the `Targets` of an observer.

    Parameters
    ----------
    net : torch.nn.Module
        Its batch norms have the running mean and variance of the observer's training.
    recorded : dict of LayerStatistic to (mean, variance)
        Of any images, for the statistics and their sizes.
    stored : dict of str to tensor, or None
        See `statistics.read_statistics`; not needed if only global statistics of batch norms are
        matched.
    settings : dict
        ``class_variance``: ``within`` images, or ``total``; ``tile_statistics``: ``correct``, or
        ``swapped``, with mean and variance of a class's tiles interchanged (C EDC utils.py).
    device : torch.device
    """
    modules = dict(net.named_modules())
    sizes = torch.tensor([mean.shape[1] for mean, _ in recorded.values()])
    index = torch.arange(len(recorded)).repeat_interleave(sizes)
    overall = [_overall(statistic, modules, stored) for statistic in recorded]
    by_class = []
    if settings["alpha"] < 1:
        by_class = [_by_class(statistic, stored, settings) for statistic in recorded]
    return Targets(
        list(recorded),
        index.to(device),
        *_side_by_side(overall, device),
        *_side_by_side(by_class, torch.device("cpu")),
    )


def _side_by_side(pairs, device):
    """Return [means, variances] of all statistics, concatenated; [] for no pairs."""
    return [torch.cat(values, -1).float().to(device) for values in zip(*pairs, strict=True)]


def _overall(statistic, modules, stored):
    if statistic.kind == "batchnorm":
        module = modules[statistic.layer]
        return module.running_mean.cpu(), module.running_var.cpu()
    name = statistic.name
    mean, within, between = (stored[f"{name}.{of}"] for of in ("mean", "within", "between"))
    return statistics.overall(mean, within + between, stored["count"])


def _by_class(statistic, stored, settings):
    mean, variance = stored[f"{statistic.name}.mean"], stored[f"{statistic.name}.within"]
    if settings["class_variance"] == "total":
        variance = variance + stored[f"{statistic.name}.between"]
    if statistic.unit == "tile" and settings["tile_statistics"] == "swapped":
        return variance, mean
    return mean, variance


class Matching:
    """The matching loss of one batch of images for one observer.

    Parameters
    ----------
    targets : Targets
    labels : (n,) int64 tensor
        Class of each image, as rows of the targets.
    settings : dict
        ``alpha``: weight of the global statistics, 1 - alpha that of the class-conditional ones;
        ``class_terms``: ``mixture`` compares the batch with the mean of its images' classes,
        ``classes`` every class with its own images, weighted by their share; ``class_layers``:
        ``all``, or ``convolution``, for which batch norms match global statistics only;
        ``momentum``: weight of the statistics of earlier steps; ``momentum_start``: initial
        statistics, ``zero``, or ``first``, those of the first step.
    weights : dict
        ``batchnorm``, ``convolution``: of the distances by kind of layer; ``first_layer``: factor
        on those of the first layer.

    Notes
    -----
    The distance of a statistic is ‖mean - target‖₂ + ‖variance - target‖₂. With momentum μ, the
    running u becomes μ u + (1 - μ) v with v of the batch, and is compared in place of v. The
    gradient is with respect to v, undamped (G-VBSM; C EDC utils.py).
    """

    def __init__(self, targets, labels, settings, weights):
        self.targets, self.settings = targets, settings
        first = targets.statistics[0].layer
        scale = [
            weights[s.kind] * (weights["first_layer"] if s.layer == first else 1)
            for s in targets.statistics
        ]
        device = targets.mean.device
        self.weights = torch.tensor(scale, device=device)
        alpha = [self._alpha(statistic) for statistic in targets.statistics]
        self.alpha = torch.tensor(alpha, dtype=torch.float32, device=device)
        classes, self.group = labels.unique(return_inverse=True)
        member = torch.nn.functional.one_hot(self.group, len(classes)).float()
        self.share = member.mean(0)
        self.average = (member / member.sum(0)).T
        self.by_class = settings["alpha"] < 1
        if self.by_class:
            rows = classes.cpu()
            pair = targets.class_mean, targets.class_variance
            own = [values[rows].to(device) for values in pair]
            if settings["class_terms"] == "mixture":
                own = [(self.share[:, None] * values).sum(0, keepdim=True) for values in own]
            self.own = own
        self.memory = {}

    def _alpha(self, statistic):
        layers = self.settings.get("class_layers", "all")
        if layers == "convolution" and statistic.kind == "batchnorm":
            return 1.0
        return self.settings["alpha"]

    def __call__(self, recorded, included=None):
        """Return {kind of layer: weighted distance} of the images' statistics, and store them.

        Parameters
        ----------
        recorded : dict of LayerStatistic to (mean, variance)
            See `StatisticsRecorder`.
        included : (statistics,) tensor, optional
            0 for statistics that are not matched in this step.
        """
        mean, variance = (torch.cat(values, 1) for values in zip(*recorded.values(), strict=True))
        batch = self._with_momentum("batch", *_of_batch(mean, variance))
        distance = self.alpha * self._distance(batch, (self.targets.mean, self.targets.variance))
        if self.by_class:
            values, share = [value[None] for value in batch], batch[0].new_ones(1)
            if self.settings["class_terms"] == "classes":
                values = self._with_momentum("classes", *self._of_classes(mean, variance))
                share = self.share
            class_distance = self._distance(values, self.own)
            distance = distance + (1 - self.alpha) * (class_distance * share[:, None]).sum(0)
        weighted = self.weights * distance
        if included is not None:
            weighted = weighted * included
        return self._by_kind(weighted)

    def between(self, recorded, others):
        """Return the weighted distance of the global statistics of two batches."""
        first, second = (
            _of_batch(*(torch.cat(values, 1) for values in zip(*batch.values(), strict=True)))
            for batch in (recorded, others)
        )
        return (self.weights * self._distance(first, second)).sum()

    def _of_classes(self, mean, variance):
        """Return the statistics of each class's images, (classes of the batch, columns)."""
        centre, within = self.average @ mean, self.average @ variance
        if self.settings["class_variance"] == "total":
            within = within + self.average @ (mean - centre[self.group]).square()
        return centre, within

    def _distance(self, values, targets):
        """Return the distances of all statistics, (..., statistics)."""
        squares = torch.stack([(a - b).square() for a, b in zip(values, targets, strict=True)])
        sums = squares.new_zeros(*squares.shape[:-1], len(self.targets.statistics))
        sums = sums.index_add(-1, self.targets.index, squares)
        # The gradient of a root is infinite at zero; clamped, it is zero.
        return sums.clamp(min=1e-24).sqrt().sum(0)

    def _with_momentum(self, name, *values):
        momentum = self.settings["momentum"]
        if not momentum:
            return values
        running = []
        for side, value in zip(("mean", "variance"), values, strict=True):
            now = value.detach()
            start = torch.zeros_like(now) if self.settings["momentum_start"] == "zero" else now
            stored = self.memory.get(f"{name}.{side}", start).lerp(now, 1 - momentum)
            self.memory[f"{name}.{side}"] = stored
            running.append(value + (stored - now))
        return running

    def _by_kind(self, weighted):
        kinds = [statistic.kind for statistic in self.targets.statistics]
        return {
            kind: weighted[[i for i, other in enumerate(kinds) if other == kind]].sum()
            for kind in dict.fromkeys(kinds)
        }


def _of_batch(mean, variance):
    """Return mean and variance over images and positions, (columns,), from those per image."""
    centre = mean.mean(0)
    return centre, variance.mean(0) + (mean - centre).square().mean(0)
