import math

import numpy as np
import pytest
import torch
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import N_DRAWS, random_boxes
from stillhouse.methods.statistical_matching import losses
from stillhouse.methods.statistical_matching.feature_statistics import StatisticsRecorder
from stillhouse.methods.statistical_matching.matching import Matching, Targets
from stillhouse.methods.statistical_matching.observers import Observer
from stillhouse.methods.statistical_matching.synthesis import Batch
from stillhouse.networks import registry
from stillhouse.training import loop
from torch.nn.functional import cross_entropy, interpolate

from tests.methods.statistical_matching.stage_settings import loss_names, stage_settings

LABELS = [0, 0, 1, 2, 2, 2]


def images_of(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch_of(settings, labels=LABELS, side=8, **keys):
    """Return a batch of normal noise."""
    keys = {"ipc": 3, "seed": 0, "batch": 0, **keys}
    images = images_of(len(labels), 3, side, side)
    return Batch(images, torch.tensor(labels), settings, keys)


def observer_of(settings, images, labels=LABELS):
    """Return an observer with targets of noise, and its network."""
    recipe = {"arch": "convnet2", "width": 4, "norm": "batch"}
    net = loop.freeze(registry.build(recipe, 3, 8, 0, "teacher"))
    recorder, matching = StatisticsRecorder(net, settings["kinds"], settings["tile"]), None
    with torch.no_grad():
        _, recorded = recorder(images[:1])
    if recorded:
        sizes = [mean.shape[1] for mean, _ in recorded.values()]
        index = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        mean, variance = images_of(2, sum(sizes), seed=1).abs()
        by_class = images_of(2, 3, sum(sizes), seed=2).abs()
        wanted = Targets(list(recorded), index, mean, variance, *by_class)
        matching = Matching(wanted, torch.tensor(labels), settings, settings["loss_weights"])
    return Observer(recorder, matching, torch.arange(3)), net


VIEW = {"crop": [0.4, 0.9], "flip": 0.5, "shift": 2}


def view_by_hand(images, settings, keys, iteration):
    """Return the view of an iteration, from the draws of its address."""
    size, shift = images.shape[-1], settings["shift"]
    item = f"{keys['batch']} {iteration}"
    draws = generator(keys["seed"], "synthesis view", item=item).random(N_DRAWS + 3)
    down, across = (math.floor(d * (shift + 1)) for d in draws[1:3])
    top, left, height, width = random_boxes(draws[None, 3:], size, size, settings["crop"])[0]
    part = images[:, :, top : top + height, left : left + width]
    viewed = interpolate(part, (size, size), mode="bilinear", antialias=True)
    viewed = viewed.flip(3) if draws[0] < settings["flip"] else viewed
    rows, columns = ((np.arange(size) - by) % size for by in (down, across))
    return viewed[:, :, rows][:, :, :, columns]


@pytest.mark.parametrize("shift", [0, 2])
def test_all_images_have_the_same_view(shift):
    settings = stage_settings("gvbsm", **{**VIEW, "shift": shift})
    batch = batch_of(settings, side=12, seed=5, batch=3)
    for iteration in range(8):
        show = losses.view(batch, iteration)
        actual = show(batch.images)
        wanted = view_by_hand(batch.images, settings, batch.keys, iteration)
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)
        # The same for other images.
        torch.testing.assert_close(show(batch.images[2:3]), wanted[2:3], rtol=1e-4, atol=1e-5)


# Ten iterations, of which eight have a smallest area above 0.2, for areas of 0.2 to 1.
CURRICULA = {
    "step": [1.0] * 8,
    "linear": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
    # 0.6 + 0.4 cos(π i / 8)
    "cosine": [1.0, 0.969552, 0.882843, 0.753073, 0.6, 0.446927, 0.317157, 0.230448],
}


@pytest.mark.parametrize(("kind", "smallest"), CURRICULA.items())
def test_the_smallest_area_falls_in_its_share_of_the_iterations(kind, smallest):
    settings = stage_settings("sre2l", crop=[0.2, 1.0], iterations=10)
    settings["curriculum"] = {"kind": kind, "share": 0.8}
    areas = [losses.crop_at(settings, i) for i in range(10)]
    assert [area for area, _ in areas] == pytest.approx([*smallest, 0.2, 0.2], abs=1e-6)
    assert {largest for _, largest in areas} == {1.0}


def test_a_curriculum_begins_at_the_largest_area_of_the_crop():
    settings = stage_settings("sre2l", crop=[0.08, 0.5], iterations=4000)
    assert losses.crop_at(settings, 0) == (0.08, 0.5)
    settings["curriculum"] = {"kind": "cosine", "share": 1.0}
    assert losses.crop_at(settings, 0) == (0.5, 0.5)
    assert losses.crop_at(settings, 2000) == pytest.approx((0.29, 0.5))
    assert losses.crop_at(settings, 3999) == pytest.approx((0.08, 0.5), abs=1e-6)


def test_views_of_a_curriculum_begin_with_complete_images():
    settings = stage_settings("sre2l", crop=[0.08, 1.0], flip=0.0, shift=0, iterations=100)
    settings["curriculum"] = {"kind": "step", "share": 0.5}
    batch = batch_of(settings)
    complete = [
        torch.allclose(losses.view(batch, i)(batch.images), batch.images, atol=1e-5)
        for i in range(100)
    ]
    assert all(complete[:50]) and sum(complete[50:]) < 5


def test_views_differ_by_iteration_batch_and_seed_alone():
    settings = stage_settings("gvbsm", **VIEW)
    images = batch_of(settings).images

    def show(iteration, **keys):
        return losses.view(batch_of(settings, **keys), iteration)(images)

    usual = show(7)
    assert torch.equal(show(7, ipc=1), usual)
    for other in (show(8), show(7, batch=1), show(7, seed=1)):
        assert not torch.allclose(other, usual, atol=0.1)


def test_views_flip_and_shift_with_their_probabilities():
    settings = stage_settings("gvbsm", crop=[1.0, 1.0], flip=0.3, shift=1)
    ramp = torch.arange(9.0).reshape(3, 3).repeat(1, 3, 1, 1)
    batch, places, flips = batch_of(settings, side=3), [], 0
    for iteration in range(400):
        viewed = losses.view(batch, iteration)(ramp)[0, 0].round().int().tolist()
        mirrored = [row[::-1] for row in viewed]
        unflipped = [down for down in (viewed, mirrored) if (down[0][1] - down[0][0]) % 3 == 1]
        flips += unflipped[0] is mirrored
        if unflipped[0] is viewed:
            places.append(viewed[1][1])
    assert 90 < flips < 150
    # The centre has the pixel of the same position, above, left, or above left.
    assert set(places) == {0, 1, 3, 4}
    counts = np.bincount(places)[[0, 1, 3, 4]]
    assert counts.min() > 45 and counts.max() < 100


@pytest.mark.parametrize(("flip", "wanted"), [(0, [1.0, 2.0]), (1, [2.0, 1.0])])
def test_flips_may_be_never_or_always(flip, wanted):
    batch = batch_of(stage_settings("gvbsm", crop=[1.0, 1.0], flip=flip), side=2)
    pair = torch.tensor([1.0, 2.0]).repeat(1, 3, 2, 1)
    for iteration in range(20):
        assert losses.view(batch, iteration)(pair)[0, 0, 0].tolist() == wanted


def pooled(images):
    """Return images of 8, 32 or 64 px as vectors, reduced to 32 px."""
    images = images.detach().double().numpy()
    factor = max(images.shape[-1] // 32, 1)
    n, channels, side, _ = images.shape
    blocks = images.reshape(n, channels, side // factor, factor, side // factor, factor)
    return blocks.mean((3, 5)).reshape(n, -1), factor


def softmax(values):
    shifted = np.exp(values - values.max())
    return shifted / shifted.sum()


def density_by_hand(images, labels):
    """Return (densification, gradient with respect to the images), class by class.

    The softened side p is constant: the slope with respect to an eigenvalue is softmax(l) - p.
    """
    flat, factor = pooled(images)
    total, slopes = 0.0, np.zeros_like(flat)
    for label in set(labels):
        rows = [i for i, other in enumerate(labels) if other == label]
        if len(rows) == 1:
            continue
        values, vectors = np.linalg.eigh(flat[rows] @ flat[rows].T)
        soft, hard = softmax(values / 4), softmax(values)
        log_soft, log_hard = (
            v - v.max() - np.log(np.exp(v - v.max()).sum()) for v in (values / 4, values)
        )
        total += (soft * (log_soft - log_hard)).sum()
        slopes[rows] = 2 * (vectors * (hard - soft)) @ vectors.T @ flat[rows]
    n, channels, side, _ = images.shape
    slopes = slopes.reshape(n, channels, side // factor, side // factor) / factor**2
    return total, slopes.repeat(factor, 2).repeat(factor, 3)


@pytest.mark.parametrize(
    ("labels", "side", "scale"),
    [
        ([0, 0, 1, 1, 1, 3], 8, 0.05),
        ([0, 0, 1, 1, 1, 3], 8, 0.3),
        ([2, 0, 2, 0], 32, 0.03),
        ([2, 0, 2, 0], 64, 0.05),
        ([1, 1, 1, 1, 1], 8, 0.1),
    ],
)
def test_densification_is_that_of_a_loop_over_classes(labels, side, scale):
    images = (images_of(len(labels), 3, side, side) * scale).requires_grad_(True)
    actual = losses.densification(images, losses.same_class_groups(torch.tensor(labels)))
    wanted, slopes = density_by_hand(images, labels)
    assert actual.item() == pytest.approx(wanted, rel=1e-3) and wanted > 1e-3
    actual.backward()
    difference = images.grad.double() - torch.from_numpy(slopes)
    assert difference.norm() < 1e-3 * np.linalg.norm(slopes)


@pytest.mark.parametrize("scale", [0, 1e-3, 1, 100])
def test_densification_of_equal_images_is_finite(scale):
    images = (images_of(1, 3, 8, 8) * scale).repeat(4, 1, 1, 1).requires_grad_(True)
    actual = losses.densification(
        images, losses.same_class_groups(torch.zeros(4, dtype=torch.int64))
    )
    actual.backward()
    assert actual.isfinite() and images.grad.isfinite().all()


def test_densification_of_single_images_is_zero():
    assert (
        losses.densification(
            images_of(3, 3, 8, 8), losses.same_class_groups(torch.tensor([0, 2, 5]))
        )
        == 0
    )


def test_logit_flatness_is_divided_by_images_and_classes():
    mine, theirs = images_of(4, 5).requires_grad_(True), images_of(4, 5, seed=1)
    actual = losses.logit_flatness(mine, theirs, 3)
    total = 0.0
    for a, b in zip(mine.detach().double().numpy(), theirs.double().numpy(), strict=True):
        p, q = softmax(b / 3), softmax(a / 3)
        total += (p * np.log(p / q)).sum()
    assert actual.item() == pytest.approx(total / 20, rel=1e-4)
    actual.backward()
    slopes = [
        softmax(a / 3) - softmax(b / 3)
        for a, b in zip(mine.detach().numpy(), theirs.numpy(), strict=True)
    ]
    np.testing.assert_allclose(mine.grad.numpy(), np.stack(slopes) / 60, atol=1e-6)
    assert losses.logit_flatness(mine, mine.detach(), 3).abs() < 1e-7


def losses_by_hand(batch, observer, net, iteration, images):
    """Return the losses at given images, each from its own pass."""
    settings, show = batch.settings, losses.view(batch, iteration)
    viewed, weights = show(images), settings["loss_weights"]
    actual = {"cross_entropy": weights["cross_entropy"] * cross_entropy(net(viewed), batch.labels)}
    if observer.matching:
        actual |= observer.matching(observer.recorder(viewed)[1])
    if weights["densification"]:
        actual["densification"] = weights["densification"] * losses.densification(
            viewed, losses.same_class_groups(batch.labels)
        )
    flatness = settings["flatness"]
    if flatness["kind"] == "logits":
        others = net(show(batch.average))
        actual["flatness"] = losses.logit_flatness(net(viewed), others, flatness["temperature"])
    if flatness["kind"] == "statistics":
        both = (observer.recorder(show(x))[1] for x in (images, batch.average))
        actual["flatness"] = observer.matching.between(*both)
    if "flatness" in actual:
        actual["flatness"] = flatness["weight"] * actual["flatness"]
    return actual


LOSSES = {
    "SRe2L": {"kind": "sre2l"},
    "G-VBSM": {"kind": "gvbsm", "loss_weights": {"cross_entropy": 0.5, "densification": 2}},
    "EDC": {"kind": "edc"},
    "flat statistics": {"kind": "edc", "flatness": {"kind": "statistics", "weight": 0.4}},
    "no statistics": {"kind": "sre2l", "loss_weights": {"batchnorm": 0}},
}


@pytest.mark.parametrize("changes", LOSSES.values(), ids=LOSSES)
def test_the_gradient_is_that_of_the_sum_of_losses(changes):
    settings = stage_settings(**changes, crop=[0.5, 1.0], shift=1)
    batch = batch_of(settings)
    if batch.average is not None:
        batch.average += 0.3 * images_of(*batch.images.shape, seed=9)
    observer, net = observer_of(settings, batch.images)
    other, _ = observer_of(settings, batch.images)
    images = batch.images.detach().clone().requires_grad_(True)
    wanted = losses_by_hand(batch, other, net, 4, images)
    actual = losses.backward(batch, observer, 4)
    assert actual.keys() == loss_names(settings)
    for name, value in actual.items():
        assert value > 0
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-7)
    sum(wanted.values()).backward()
    torch.testing.assert_close(batch.images.grad, images.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_sam_takes_the_gradient_at_the_worst_point_nearby(momentum):
    changes = {"momentum": momentum, "flatness": {"kind": "sam", "weight": 0.7}}
    settings = stage_settings("edc", crop=[0.5, 1.0], **changes)
    batch = batch_of(settings)
    observer, net = observer_of(settings, batch.images)
    other, _ = observer_of(settings, batch.images)
    memory = {}
    for iteration in range(3):
        before = batch.images.detach().clone()
        here = before.clone().requires_grad_(True)
        other.matching.memory = dict(memory)
        wanted = losses_by_hand(batch, other, net, iteration, here)
        (slope,) = torch.autograd.grad(sum(wanted.values()), here)
        nearby = (before + 0.7 * slope / slope.square().sum().sqrt()).requires_grad_(True)
        other.matching.memory = dict(memory)
        worst = losses_by_hand(batch, other, net, iteration, nearby)
        memory = dict(other.matching.memory)
        (slope,) = torch.autograd.grad(sum(worst.values()), nearby)
        actual = losses.backward(batch, observer, iteration)
        assert torch.equal(batch.images, before)
        torch.testing.assert_close(batch.images.grad, slope, rtol=1e-3, atol=1e-6)
        assert sum(worst.values()) > sum(wanted.values())
        for name, value in actual.items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-7)
        assert observer.matching.memory.keys() == memory.keys()
        for name, stored in memory.items():
            torch.testing.assert_close(observer.matching.memory[name], stored)
        batch.step(0.05)


def test_a_convolution_is_dropped_at_random():
    settings = stage_settings("gvbsm", convolution_dropout=0.4)
    batch = batch_of(settings)
    observer, _ = observer_of(settings, batch.images)
    parts = observer.matching.targets.statistics
    flags = np.stack([losses._included(batch, observer, i).numpy() for i in range(500)])
    share = {}
    for part, column in zip(parts, flags.T, strict=True):
        if part.kind == "batchnorm":
            assert column.all()
        elif part.layer in share:
            # Its tiles with its channels.
            assert (column == share[part.layer]).all()
        else:
            share[part.layer] = column
    assert len(share) == 2
    assert all(0.52 < column.mean() < 0.68 for column in share.values())
    assert 0.4 < np.mean(share["features.0"] == share["features.4"]) < 0.65
    # Addressed as views are.
    others = [batch_of(settings, batch=1), batch_of(settings, seed=1)]
    for other in others:
        drawn = np.stack([losses._included(other, observer, i).numpy() for i in range(500)])
        assert (drawn != flags).any(1).mean() > 0.3


def test_without_dropout_all_convolutions_are_matched():
    settings = stage_settings("gvbsm")
    batch = batch_of(settings)
    observer, _ = observer_of(settings, batch.images)
    assert losses._included(batch, observer, 0) is None


def test_a_dropped_convolution_has_no_loss():
    settings = stage_settings("gvbsm", convolution_dropout=0.5, alpha=0.5)
    batch = batch_of(settings)
    observer, _ = observer_of(settings, batch.images)
    by_flags = {}
    for iteration in range(40):
        included = losses._included(batch, observer, iteration)
        observer.matching.memory = {}
        actual = losses.backward(batch, observer, iteration)
        by_flags.setdefault(tuple(included.tolist()), []).append(actual["convolution"].item())
    # Two convolutions: both, either, none.
    assert len(by_flags) == 4
    none = tuple(float(part.kind == "batchnorm") for part in observer.matching.targets.statistics)
    assert set(by_flags[none]) == {0.0}
    assert all(min(values) > 0 for flags, values in by_flags.items() if flags != none)
