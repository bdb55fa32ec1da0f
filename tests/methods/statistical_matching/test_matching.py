"""The matching loss of all layers at once, against a loop over layers with the formulas."""

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from stillhouse.data.transforms import normalise
from stillhouse.methods.statistical_matching.feature_statistics import (
    LayerStatistic,
    StatisticsRecorder,
)
from stillhouse.methods.statistical_matching.matching import Matching, targets
from stillhouse.methods.statistical_matching.statistics import sum_statistics, summary
from stillhouse.networks import registry
from stillhouse.training import loop
from torch import nn

CPU = torch.device("cpu")
CLASSES, LABELS = 4, [0, 2, 2, 3, 0, 2]
COUNT = len(LABELS)
# Statistics of an observer, in the order of the pass, and their sizes.
STATISTICS = {
    LayerStatistic("convolution", "stem", "channel"): 3,
    LayerStatistic("convolution", "stem", "tile"): 4,
    LayerStatistic("batchnorm", "norm", "channel"): 5,
    LayerStatistic("convolution", "body", "channel"): 5,
    LayerStatistic("convolution", "body", "tile"): 1,
}
CODE = {
    **{"alpha": 0.5, "class_terms": "mixture", "class_variance": "within", "class_layers": "all"},
    **{"tile_statistics": "swapped", "momentum": 0.0, "momentum_start": "zero"},
}
WEIGHTS = {"batchnorm": 0.7, "convolution": 1.3, "first_layer": 10.0}


def numbers(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 0.1


def stored_statistics():
    """Return statistics of real images as stored by their stage."""
    stored = {"count": torch.tensor([5.0, 9.0, 7.0, 30.0], dtype=torch.float64)}
    for i, (part, size) in enumerate(STATISTICS.items()):
        for j, name in enumerate(("mean", "within", "between")):
            stored[f"{part.name}.{name}"] = numbers(10 * i + j, CLASSES, size).double()
    return stored


class Observer(nn.Module):
    """A network with layers of these names, of which only batch norms are used."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.body = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.Conv2d(5, 5, 1)
        self.norm.running_mean.copy_(numbers(91, 5))
        self.norm.running_var.copy_(numbers(92, 5))


def recorded_of(seed, n=COUNT):
    """Return statistics of n images, which require gradients."""
    actual = {}
    for i, (part, size) in enumerate(STATISTICS.items()):
        sides = (numbers(1000 * seed + 10 * i + side + 500, n, size) for side in range(2))
        actual[part] = tuple(side.requires_grad_(True) for side in sides)
    return actual


def matching_of(settings, labels=LABELS, weights=WEIGHTS):
    wanted = targets(Observer(), recorded_of(0, 1), stored_statistics(), settings, CPU)
    return Matching(wanted, torch.tensor(labels), settings, weights)


def whole_target(part, stored):
    """Return mean and variance over all images of all classes."""
    if part.kind == "batchnorm":
        net = Observer()
        return net.norm.running_mean, net.norm.running_var
    count = stored["count"]
    mean, within, between = (stored[f"{part.name}.{of}"] for of in ("mean", "within", "between"))
    centre = sum(count[c] * mean[c] for c in range(CLASSES)) / count.sum()
    square = (
        sum(count[c] * (within[c] + between[c] + mean[c] ** 2) for c in range(CLASSES))
        / count.sum()
    )
    return centre, square - centre**2


def class_target(part, stored, label, settings):
    mean, variance = stored[f"{part.name}.mean"][label], stored[f"{part.name}.within"][label]
    if settings["class_variance"] == "total":
        variance = variance + stored[f"{part.name}.between"][label]
    if settings["tile_statistics"] == "swapped" and part.unit == "tile":
        mean, variance = variance, mean
    return mean, variance


class Naive:
    """The formulas per statistic, class and norm, in float64, with running statistics."""

    def __init__(self, settings, labels=LABELS, weights=WEIGHTS):
        self.settings, self.labels, self.weights = settings, labels, weights
        self.memory = {}

    def remembered(self, name, value):
        """Return the running statistic of a number of the batch, without gradient."""
        momentum = self.settings["momentum"]
        now = value.detach()
        if name not in self.memory:
            first = self.settings["momentum_start"] == "first"
            self.memory[name] = now if first else torch.zeros_like(now)
        self.memory[name] = momentum * self.memory[name] + (1 - momentum) * now
        return self.memory[name].clone().requires_grad_(True)

    def distance(self, name, mean, variance, wanted, pairs):
        """Return the two norms; record the number of the batch behind each running statistic."""
        actual = 0
        for which, value, target in zip(("m", "v"), (mean, variance), wanted, strict=True):
            stand_in = self.remembered(f"{name} {which}", value)
            pairs.append((value, stand_in))
            actual = actual + (stand_in - target.double()).norm()
        return actual

    def __call__(self, moments, kept_parts=None):
        """Return ({kind: loss}, gradient of their sum by part)."""
        stored, losses, pairs = stored_statistics(), {}, []
        doubles = {
            part: tuple(side.detach().double().requires_grad_(True) for side in sides)
            for part, sides in moments.items()
        }
        for i, (part, (mean, variance)) in enumerate(doubles.items()):
            alpha = self.settings["alpha"]
            if self.settings["class_layers"] == "convolution" and part.kind == "batchnorm":
                alpha = 1.0
            centre = mean.mean(0)
            spread = variance.mean(0) + mean.var(0, correction=0)
            wanted = whole_target(part, stored)
            loss = alpha * self.distance(f"{part} all", centre, spread, wanted, pairs)
            if self.settings["class_terms"] == "mixture":
                of_images = [class_target(part, stored, c, self.settings) for c in self.labels]
                mixed = [sum(side) / len(self.labels) for side in zip(*of_images, strict=True)]
                # The same numbers of the batch, which enter the running statistics once.
                stand_ins = [stand_in for _, stand_in in pairs[-2:]]
                far = sum((a - b).norm() for a, b in zip(stand_ins, mixed, strict=True))
                loss = loss + (1 - alpha) * far
            else:
                for label in sorted(set(self.labels)):
                    rows = [j for j, c in enumerate(self.labels) if c == label]
                    own = variance[rows].mean(0)
                    if self.settings["class_variance"] == "total":
                        own = own + mean[rows].var(0, correction=0)
                    wanted = class_target(part, stored, label, self.settings)
                    far = self.distance(f"{part} {label}", mean[rows].mean(0), own, wanted, pairs)
                    loss = loss + (1 - alpha) * len(rows) / len(self.labels) * far
            weight = self.weights[part.kind]
            weight *= self.weights["first_layer"] if part.layer == "stem" else 1
            weight *= 1 if kept_parts is None else float(kept_parts[i])
            losses[part.kind] = losses.get(part.kind, 0) + weight * loss
        sum(losses.values()).backward()
        values, stand_ins = zip(*pairs, strict=True)
        slopes = [s.grad if s.grad is not None else torch.zeros_like(s) for s in stand_ins]
        torch.autograd.backward(values, slopes)
        gradient = {part: [side.grad for side in sides] for part, sides in doubles.items()}
        return {kind: loss.detach() for kind, loss in losses.items()}, gradient


def check(settings, labels=LABELS, weights=WEIGHTS, included=None, steps=1):
    matching, naive = matching_of(settings, labels, weights), Naive(settings, labels, weights)
    for step in range(steps):
        moments = recorded_of(step, len(labels))
        actual, (wanted, slopes) = matching(moments, included), naive(moments, included)
        assert actual.keys() == wanted.keys()
        for kind, loss in wanted.items():
            torch.testing.assert_close(actual[kind].double(), loss, rtol=1e-5, atol=1e-6)
        sum(actual.values()).backward()
        for part, sides in moments.items():
            for mine, theirs in zip(sides, slopes[part], strict=True):
                torch.testing.assert_close(mine.grad.double(), theirs, rtol=1e-4, atol=1e-5)


SETTINGS = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0, 0.5, 1]),
        "class_terms": st.sampled_from(["mixture", "classes"]),
        "class_variance": st.sampled_from(["within", "total"]),
        "class_layers": st.sampled_from(["all", "convolution"]),
        "tile_statistics": st.sampled_from(["correct", "swapped"]),
        "momentum": st.sampled_from([0.0, 0.4, 0.8]),
        "momentum_start": st.sampled_from(["zero", "first"]),
    }
)


@hypothesis.settings(max_examples=60)
@hypothesis.given(SETTINGS, st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=6))
def test_losses_are_those_of_the_formulas(settings, labels):
    check(settings, labels, steps=3)


@pytest.mark.parametrize("start", ["zero", "first"])
def test_the_first_step_with_momentum(start):
    settings = {**CODE, "alpha": 1.0, "momentum": 0.8, "momentum_start": start}
    (part,) = [part for part in STATISTICS if part.kind == "batchnorm"]
    moments = recorded_of(0)
    actual = matching_of(settings)(moments)["batchnorm"]
    mean, variance = moments[part]
    share = {"zero": 0.2, "first": 1.0}[start]
    norm = Observer().norm
    means, variances = mean.mean(0), variance.mean(0) + mean.var(0, correction=0)
    wanted = (share * means - norm.running_mean).norm()
    wanted = wanted + (share * variances - norm.running_var).norm()
    torch.testing.assert_close(actual, WEIGHTS["batchnorm"] * wanted)


@pytest.mark.parametrize(
    "weights",
    [{"first_layer": 1.0}, {"first_layer": 0.0}, {"convolution": 0.0}, {"batchnorm": 0.0}],
)
def test_weights_are_of_kinds_and_of_the_first_layer(weights):
    check(CODE, weights={**WEIGHTS, **weights})


def test_the_first_layer_is_the_first_that_is_matched():
    settings = {**CODE, "alpha": 1.0}
    batchnorm = {part: pair for part, pair in recorded_of(0).items() if part.kind == "batchnorm"}
    wanted = targets(Observer(), batchnorm, None, settings, CPU)
    heavy = Matching(wanted, torch.tensor(LABELS), settings, WEIGHTS)(batchnorm)["batchnorm"]
    light = matching_of(settings)(recorded_of(0))["batchnorm"]
    torch.testing.assert_close(heavy, 10 * light)


@pytest.mark.parametrize("flags", [[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 0, 0]])
def test_statistics_may_be_dropped_in_a_step(flags):
    # Unequal weights, since gradients of a single number could cancel.
    settings = {**CODE, "alpha": 0.3}
    check(settings, included=torch.tensor(flags, dtype=torch.float32))
    matching = matching_of(settings)
    moments = recorded_of(0)
    sum(matching(moments, torch.tensor(flags)).values()).backward()
    for flag, (mean, variance) in zip(flags, moments.values(), strict=True):
        assert bool(mean.grad.any()) == bool(variance.grad.any()) == bool(flag)


@pytest.mark.parametrize("class_terms", ["mixture", "classes"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_matched_statistics_have_a_gradient_of_zero(class_terms, momentum):
    # The slope of a root is infinite at zero.
    settings = {**CODE, "alpha": 0.5, "momentum": momentum, "momentum_start": "first"}
    settings |= {"class_terms": class_terms, "tile_statistics": "correct"}
    stored, net = stored_statistics(), Observer()
    stored["count"] = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    moments = {}
    for part in STATISTICS:
        stored[f"{part.name}.between"].zero_()
        mean, variance = (stored[f"{part.name}.{of}"][:1].float() for of in ("mean", "within"))
        if part.kind == "batchnorm":
            net.norm.running_mean.copy_(mean[0])
            net.norm.running_var.copy_(variance[0])
        pair = mean.clone(), variance.clone()
        moments[part] = tuple(side.requires_grad_(True) for side in pair)
    matching = Matching(
        targets(net, moments, stored, settings, CPU), torch.tensor([0]), settings, WEIGHTS
    )
    for _ in range(2):
        total = sum(matching(moments).values())
        assert 0 <= total < 1e-9
        total.backward()
    for pair in moments.values():
        assert all(side.grad.isfinite().all() and not side.grad.any() for side in pair)


def test_the_distance_between_batches_is_that_of_their_statistics():
    settings = {**CODE, "alpha": 0.3, "momentum": 0.9}
    matching, mine, theirs = matching_of(settings), recorded_of(0), recorded_of(1, 3)
    wanted = 0
    for part in STATISTICS:
        pairs = []
        for mean, variance in (mine[part], theirs[part]):
            pairs.append((mean.mean(0), variance.mean(0) + mean.var(0, correction=0)))
        far = sum((a - b).norm() for a, b in zip(*pairs, strict=True))
        scale = 10 if part.layer == "stem" else 1
        wanted = wanted + WEIGHTS[part.kind] * scale * far
    torch.testing.assert_close(matching.between(mine, theirs), wanted)
    assert matching.memory == {}
    same = matching.between(mine, mine)
    same.backward()
    assert same < 1e-9 and all(not side.grad.any() for pair in mine.values() for side in pair)


def network():
    """Return a frozen network, and the list in which hooks record the inputs of its layers."""
    settings = {"arch": "convnet2", "width": 6, "norm": "batch"}
    net = loop.freeze(registry.build(settings, 3, 8, 0, "teacher"))
    recorded = []
    for i, module in enumerate(m for m in net.modules() if type(m) in (nn.BatchNorm2d, nn.Conv2d)):
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(numbers(i, 6))
            module.running_var.copy_(numbers(i + 50, 6))
        module.register_forward_pre_hook(
            lambda module, inputs: recorded.append((module, inputs[0]))
        )
    return net, recorded


def images_of(n):
    generator = torch.Generator().manual_seed(0)
    return torch.randn((n, 3, 8, 8), generator=generator).requires_grad_(True)


def test_sre2l_matches_the_running_statistics_of_batch_norms():
    images = images_of(5)
    net, recorded = network()
    settings = {"alpha": 1.0, "momentum": 0.0}
    weights = {"batchnorm": 0.01, "convolution": 0.0, "first_layer": 10.0}
    _, moments = StatisticsRecorder(net, ["batchnorm"], 0)(images)
    wanted = targets(net, moments, None, settings, CPU)
    actual = Matching(wanted, torch.tensor([0, 1, 2, 0, 1]), settings, weights)(moments)
    # As in SRe2L's recover script, layer by layer.
    layers = [(module, maps) for module, maps in recorded if isinstance(module, nn.BatchNorm2d)]
    total = 0
    for i, (module, maps) in enumerate(layers):
        variance, mean = torch.var_mean(maps, (0, 2, 3), correction=0)
        far = (variance - module.running_var).norm() + (mean - module.running_mean).norm()
        total = total + (10 if i == 0 else 1) * far
    assert len(layers) == 2 and actual.keys() == {"batchnorm"}
    torch.testing.assert_close(actual["batchnorm"], 0.01 * total, rtol=1e-4, atol=1e-6)
    (mine,), (theirs,) = (
        torch.autograd.grad(value, images, retain_graph=True)
        for value in (actual["batchnorm"], 0.01 * total)
    )
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)


def test_a_batch_of_a_complete_dataset_matches_itself():
    """Collected and matched statistics have the same definition."""
    pixels = [numbers(i, 3 + i, 3, 8, 8) * 200 for i in range(3)]
    net, _ = network()
    recorder = StatisticsRecorder(net, ["convolution"], 4)
    sums = [sum_statistics(recorder, part.split(2)) for part in pixels]
    sums = {name: torch.stack([one[name] for one in sums]) for name in sums[0]}
    stored = {name: tensor.double() for name, tensor in summary(sums).items()}
    labels = torch.tensor([0] * 3 + [1] * 4 + [2] * 5)
    _, moments = recorder(normalise(torch.cat(pixels)))
    weights = {"convolution": 1.0, "first_layer": 1.0}
    for alpha in (0.0, 1.0):
        settings = {**CODE, "alpha": alpha, "class_terms": "classes", "class_variance": "total"}
        settings["tile_statistics"] = "correct"
        wanted = targets(net, moments, stored, settings, CPU)
        actual = Matching(wanted, labels, settings, weights)(moments)["convolution"]
        size = torch.cat([wanted.mean, wanted.variance]).norm()
        assert actual < 1e-4 * size
        # Labels have no effect on global statistics.
        other = Matching(wanted, labels.flip(0), settings, weights)(moments)["convolution"]
        assert bool(other > 0.1 * size) is (alpha == 0.0)
