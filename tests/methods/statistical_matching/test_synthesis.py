import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import member_folder
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.jobs import produce
from stillhouse.data.codecs import decode
from stillhouse.data.transforms import normalise, normalised_to_bytes
from stillhouse.methods.common import optimisation
from stillhouse.methods.common.optimisation import optimise
from stillhouse.methods.statistical_matching import losses, synthesis
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.methods.statistical_matching.method import SYNTHESIS
from stillhouse.methods.statistical_matching.observers import load_observer
from stillhouse.methods.statistical_matching.synthesis import (
    Batch,
    MatchedBatch,
    learning_rate,
)
from stillhouse.training.loop import Diverged

from tests.methods.statistical_matching.stage_settings import loss_names, stage_settings

CPU = torch.device("cpu")


@dataclass
class Unmatched:
    """An observer without running statistics."""

    name: str
    matching = None


CLASSES = ["0", "1", "2"]


def settings_of(*arguments, **changes):
    return {**stage_settings(*arguments, **changes), "classes": CLASSES, "resolution": 8}


@pytest.fixture
def make(observers, class_images, empty):
    """Return a function that synthesises batches and returns their folders."""

    def make(name, settings, numbers=(0,), ipc=2, classes=CLASSES, observed="ab", **resources):
        spec = {"stage": "synthesis", "settings": settings, "keys": {"ipc": ipc, "seed": 0}}
        spec["digest"] = ""
        spec["address"] = f"results/synthesis/{name}"
        inputs = {"teachers": [observers[name].model for name in observed]}
        if "convolution" in settings["kinds"]:
            inputs["statistics"] = [observers[name].statistics for name in observed]
        if settings["initial"] == "real":
            inputs["images"] = {class_id: class_images[class_id] for class_id in classes}
        produce(SYNTHESIS, inputs, spec, list(numbers), {"device": "cpu", **resources})
        return [member_folder(spec["address"], SYNTHESIS.member, number) for number in numbers]

    return make


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in SYNTHESIS.files}


# Batches


def batch_of(n=4, labels=None, **settings):
    images = torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % 3 if labels is None else torch.tensor(labels)
    settings = {
        "flatness": {"kind": "none"},
        "schedule": "constant",
        "learning_rate": 0.1,
        **settings,
    }
    return Batch(images, labels, settings, {"ipc": 2, "seed": 0, "batch": 0})


def test_steps_are_those_of_adam():
    batch = batch_of()
    images = batch.images.detach().clone().requires_grad_(True)
    adam = torch.optim.Adam([images], betas=(0.5, 0.9), eps=1e-8)
    black, white = (normalise(torch.full((1, 3, 1, 1), v)) for v in (0.0, 255.0))
    for step in range(6):
        generator = torch.Generator().manual_seed(step)
        slope = torch.randn(images.shape, generator=generator) * 10.0 ** (step - 3)
        images.grad, batch.images.grad = slope, slope.clone()
        adam.param_groups[0]["lr"] = 0.5 / (step + 1)
        adam.step()
        with torch.no_grad():
            images.copy_(torch.maximum(torch.minimum(images, white), black))
        batch.step(0.5 / (step + 1))
        torch.testing.assert_close(batch.images, images)
        assert batch.images.grad is None and batch.images.requires_grad


def test_images_stay_in_the_range_of_pixels():
    batch = batch_of()
    for sign in (-1, 1):
        batch.images.grad = torch.full_like(batch.images, sign)
        batch.step(100.0)
        extreme = 0 if sign == 1 else 255
        for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
            wanted = torch.full((4, 8, 8), (extreme / 255 - mean) / std)
            torch.testing.assert_close(batch.images[:, channel].detach(), wanted)
        assert (normalised_to_bytes(batch.images) == extreme).all()


def test_averaged_images_follow_the_images():
    batch = batch_of(flatness={"kind": "logits", "beta": 0.75})
    average = batch.images.detach().clone()
    assert torch.equal(batch.average, average)
    for step in range(3):
        batch.images.grad = torch.full_like(batch.images, 1.0 + step)
        batch.step(0.2)
        average = 0.75 * average + 0.25 * batch.images.detach()
        torch.testing.assert_close(batch.average, average)
    assert batch_of().average is None


def test_the_cosine_falls_to_zero():
    settings = {"learning_rate": 0.2, "iterations": 8, "schedule": "cosine"}
    rates = [learning_rate(settings, i) for i in range(8)]
    assert rates[0] == 0.2 and rates[4] == pytest.approx(0.1)
    assert rates == pytest.approx([0.1 + 0.1 * math.cos(math.pi * i / 8) for i in range(8)])
    assert {learning_rate({**settings, "schedule": "constant"}, i) for i in range(8)} == {0.2}


# The loop, with gradients that record the observer


@pytest.fixture
def noted(monkeypatch, tmp_path):
    """Return a function that runs the loop with a number as the image and records observers."""
    asked = []

    def backward(batch, observer, iteration):
        asked.append((observer.name, iteration))
        with torch.no_grad():
            batch.images.fill_(0.05 * (iteration + 1))
        batch.images.grad = torch.zeros_like(batch.images)
        return {"a": torch.tensor(float(iteration)), "b": torch.tensor(-1.0)}

    monkeypatch.setattr(losses, "backward", backward)

    def run(observers=("x",), number=0, n=4, labels=None, **settings):
        asked.clear()
        batch = batch_of(n, labels, **settings)
        batch.keys["batch"] = number
        side = Checkpoint(Context(work=tmp_path, checkpoint_seconds=1e9))
        observed = [Unmatched(name) for name in observers]
        return optimise(MatchedBatch(batch, observed), batch.settings["iterations"], side), [*asked]

    return run


@pytest.mark.parametrize(
    ("order", "number", "first"), [("restart", 1, 0), ("continued", 0, 0), ("continued", 1, 1)]
)
def test_iterations_cycle_through_the_observers(noted, order, number, first):
    # Four steps per batch of three observers: the next batch continues with the second.
    _, asked = noted("xyz", number, iterations=4, observer_order=order)
    wanted = [("xyz"[(first + i) % 3], i) for i in range(4)]
    assert asked == wanted


def test_a_single_observer_is_used_in_every_iteration(noted):
    assert {name for name, _ in noted("x", 3, iterations=5)[1]} == {"x"}


@pytest.mark.parametrize("count", [1, 7, 100, 101, 250])
def test_a_curve_has_means_of_a_hundredth_of_the_steps(noted, count):
    (curve, _), _ = noted(iterations=count)
    every = -(-count // 100)
    chunks = [range(i, min(i + every, count)) for i in range(0, count, every)]
    assert curve["a"] == pytest.approx([sum(chunk) / len(chunk) for chunk in chunks])
    assert curve["b"] == [-1.0] * len(chunks)
    assert len(chunks) <= 100


@pytest.mark.parametrize("count", [4, 5, 6, 8, 9, 10, 13])
def test_snapshots_are_of_the_start_and_after_each_quarter(noted, count):
    (_, snapshots), _ = noted(iterations=count)
    assert snapshots.shape == (5, 3, 3, 8, 8) and snapshots.dtype == torch.uint8
    assert np.array_equal(snapshots[0].numpy(), normalised_to_bytes(batch_of().images[:3]))
    # Each iteration is three bytes brighter than the previous one.
    done = (snapshots[1:, 0, 0, 0, 0].double() / 255 - 0.485) / 0.229 / 0.05
    assert (done - done.round()).abs().max() < 0.2 and done[-1].round() == count
    quarters = torch.tensor([count * k / 4 for k in range(1, 5)])
    assert ((done.round() - quarters).abs() < 1).all()


def test_snapshots_are_of_the_first_image_of_up_to_ten_classes(noted):
    labels = [11, 3, 3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 0]
    (_, snapshots), _ = noted(n=14, labels=labels, iterations=4)
    assert snapshots.shape == (5, 10, 3, 8, 8)
    images = normalised_to_bytes(batch_of(14, labels).images)
    rows = [labels.index(label) for label in range(10)]
    assert np.array_equal(snapshots[0].numpy(), images[rows])


# The verifier


def ema_by_hand(memory, recorded, momentum):
    """Return u = μ u + (1 - μ) v, with v of the complete images over images and positions."""
    means, variances = (torch.cat(values, 1) for values in zip(*recorded.values(), strict=True))
    centre = means.mean(0)
    of_batch = {"batch.mean": centre, "batch.variance": variances.mean(0) + means.var(0, False)}
    return {name: momentum * memory[name] + (1 - momentum) * of_batch[name] for name in memory}


@pytest.mark.parametrize(("verifier", "verified"), [("first", 0), ("last", 1), (None, None)])
def test_the_verifier_adds_complete_images_to_running_statistics(
    observers, monkeypatch, tmp_path, verifier, verified
):
    monkeypatch.setattr(synthesis, "VERIFIED", 3)
    changes = {"verifier": verifier} if verifier else {}
    settings = settings_of("gvbsm", iterations=5, momentum_start="zero", **changes)
    loaded = [
        load_observer(observers[name].model, observers[name].statistics, settings, CPU)
        for name in "ab"
    ]

    def start():
        keys = {"ipc": 2, "seed": 0, "batch": 0}
        images = batch_of(6).images.detach().clamp(-1, 1)
        batch = Batch(images, torch.tensor([0, 0, 1, 1, 2, 2]), settings, keys)
        return batch, [one.for_batch(batch.labels) for one in loaded]

    batch, observed = start()
    optimise(MatchedBatch(batch, observed), 5, Checkpoint(Context(work=tmp_path)))
    plain, others = start()
    for i in range(5):
        losses.backward(plain, others[i % 2], i)
        if i in (0, 3) and verified is not None:
            matching = others[verified].matching
            with torch.no_grad():
                _, recorded = others[verified](plain.images)
            empty = {name: torch.zeros(()) for name in ("batch.mean", "batch.variance")}
            matching.memory = ema_by_hand(matching.memory or empty, recorded, 0.4)
        plain.step(learning_rate(settings, i))
    torch.testing.assert_close(batch.images, plain.images)
    for one, other in zip(observed, others, strict=True):
        assert one.matching.memory.keys() == other.matching.memory.keys() != set()
        for name, value in one.matching.memory.items():
            torch.testing.assert_close(value, other.matching.memory[name])


# The stage


@pytest.mark.parametrize("kind", ["edc", "gvbsm", "sre2l"])
def test_images_are_stored_with_class_and_index(make, kind):
    settings = settings_of(kind, batch_size=4, iterations=5)
    several = batches(settings, 2)
    folders = make("x", settings, range(len(several)))
    for pairs, folder in zip(several, folders, strict=True):
        rows = store.read_table(folder / "images.parquet").to_pylist()
        assert [(row["class_id"], row["index"]) for row in rows] == [
            (CLASSES[label], index) for label, index in pairs
        ]
        pixels = np.stack([decode(row["image"]["bytes"]) for row in rows])
        assert pixels.shape == (len(pairs), 3, 8, 8) and pixels.dtype == np.uint8
        snapshots = store.read_table(folder / "snapshots.parquet").to_pylist()
        first = {label: i for i, (label, _) in reversed([*enumerate(pairs)])}
        rows = [first[label] for label in sorted(first)]
        times = [time for time in (0, 1, 2, 3, 5) for _ in rows]
        assert [row["iteration"] for row in snapshots] == times
        last = [decode(row["image"]["bytes"]) for row in snapshots[-len(rows) :]]
        assert np.array_equal(last, pixels[rows])
        curve = store.read_json(folder / "curve.json")
        assert curve.keys() == loss_names(settings)
        assert all(len(values) == 5 for values in curve.values())


def test_a_batch_does_not_depend_on_the_other_batches(make):
    settings = settings_of(batch_size=2, iterations=4)
    together = make("all", settings, range(3))
    # Its inputs are the images of its class alone.
    (alone,) = make("one", settings, [1], classes=["1"])
    assert bytes_of(alone) == bytes_of(together[1])
    assert len({bytes_of(folder)["curve.json"] for folder in together}) == 3


def test_the_loss_falls(make):
    changes = {"iterations": 60, "learning_rate": 0.1, "crop": [0.8, 1.0], "flip": 0.0}
    settings = settings_of("sre2l", **changes, loss_weights={"batchnorm": 0.1})
    (folder,) = make("x", settings, observed="a")
    curve = store.read_json(folder / "curve.json")
    for name in ("cross_entropy", "batchnorm"):
        assert sum(curve[name][-10:]) < 0.6 * sum(curve[name][:10])


LONG = {
    "flat logits": {"flatness": {"kind": "logits", "beta": 0.8}, "convolution_dropout": 0.4},
    "sharpness": {"flatness": {"kind": "sam"}, "class_terms": "mixture"},
    "G-VBSM": {"kind": "gvbsm", "shift": 1, "verifier": "last"},
    "SRe2L": {"kind": "sre2l"},
    "CDA": {"kind": "sre2l", "curriculum": {"kind": "cosine", "share": 0.8}},
}


@pytest.mark.parametrize("seconds", [0, 1000])
@pytest.mark.parametrize("changes", LONG.values(), ids=LONG)
def test_a_resumed_synthesis_has_the_same_bytes(make, interrupt, monkeypatch, changes, seconds):
    # Three points of the curve: it is interrupted between two of them.
    monkeypatch.setattr(optimisation, "N_POINTS", 3)
    settings = settings_of(**{"iterations": 7, "momentum": 0.5, **changes})
    (undisturbed,) = make("undisturbed", settings)
    calls = interrupt(losses, "backward", 6)
    with pytest.raises(KeyboardInterrupt):
        make("interrupted", settings, checkpoint_seconds=seconds)
    assert len(calls) == 6
    (actual,) = make("interrupted", settings, checkpoint_seconds=seconds)
    assert len(calls) == 6 + (2 if seconds == 0 else 7)
    assert bytes_of(actual) == bytes_of(undisturbed)


def test_snapshots_so_far_are_beside_the_checkpoint(make, interrupt):
    settings = settings_of()
    interrupt(losses, "backward", 5)
    with pytest.raises(KeyboardInterrupt):
        make("x", settings, checkpoint_seconds=0)
    (path,) = Path("results/.work").glob("*/snapshots.png")
    # One row per iteration, three classes side by side: the start, three quarters, the current one.
    assert decode(path.read_bytes()).shape == (3, 5 * 8, 3 * 8)


def test_bfloat16_has_about_the_same_losses(make):
    changes = {"iterations": 4, "flatness": {"kind": "logits"}}
    curves = []
    for precision in ("float32", "bfloat16"):
        settings = settings_of(**changes, precision=precision)
        (folder,) = make(precision, settings)
        curves.append(store.read_json(folder / "curve.json"))
    exact, rough = curves
    assert exact.keys() == rough.keys() and exact != rough
    # Both are cut in float32: at first the averaged images are the images.
    assert rough["flatness"][0] == pytest.approx(0, abs=1e-9)
    for name in ("cross_entropy", "batchnorm", "convolution"):
        # Later steps differ more, since Adam depends on the signs of small gradients.
        assert rough[name][0] == pytest.approx(exact[name][0], rel=0.05)
        assert rough[name] == pytest.approx(exact[name], rel=0.2)


def test_observers_without_batch_norms_are_matched_by_convolutions(make):
    settings = settings_of(iterations=4)
    (folder,) = make("x", settings, observed="c")
    curve = store.read_json(folder / "curve.json")
    assert "batchnorm" not in curve and len(curve["convolution"]) == 4


@pytest.mark.parametrize(("bad", "interval"), [(0, "1 to 3"), (4, "4 to 6"), (249, "250 to 250")])
def test_a_synthesis_that_diverges_names_iterations_loss_and_remedy(
    monkeypatch, tmp_path, bad, interval
):
    def backward(batch, observer, iteration):
        batch.images.grad = torch.zeros_like(batch.images)
        return {"a": torch.tensor(math.nan if iteration >= bad else 2.0)}

    monkeypatch.setattr(losses, "backward", backward)
    checkpoint = Checkpoint(Context(work=tmp_path, checkpoint_seconds=1e9))
    last = "the last finite mean is 2" if bad > 2 else "none was finite"
    message = f"batch 0: diverged in iterations {interval}, a nan, {last}; lower the method's "
    with pytest.raises(Diverged, match=message + "learning_rate, now 0.1"):
        optimise(MatchedBatch(batch_of(iterations=250), [Unmatched("x")]), 250, checkpoint)


def test_images_that_are_not_finite_after_the_last_iteration_are_an_error(monkeypatch, tmp_path):
    def backward(batch, observer, iteration):
        batch.images.grad = torch.full_like(batch.images, math.nan if iteration == 3 else 0.0)
        return {"a": torch.tensor(1.0)}

    monkeypatch.setattr(losses, "backward", backward)
    checkpoint = Checkpoint(Context(work=tmp_path, checkpoint_seconds=1e9))
    with pytest.raises(Diverged, match=r"batch\.images is not finite after iteration 4"):
        optimise(MatchedBatch(batch_of(iterations=4), [Unmatched("x")]), 4, checkpoint)
