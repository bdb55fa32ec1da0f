import contextlib
import copy
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context
from stillhouse.data.codecs import decode
from stillhouse.data.distilled_set import DistilledSet
from stillhouse.data.normalisation import PUBLISHED
from stillhouse.data.transforms import normalise
from stillhouse.data.whitening import Whitening, fit
from stillhouse.errors import StillhouseError
from stillhouse.methods.common import optimisation
from stillhouse.methods.common.optimisation import optimise
from stillhouse.methods.common.utilities.base import Utility
from stillhouse.methods.common.utilities.distribution_matching import DistributionMatching
from stillhouse.methods.common.utilities.gradient_matching import GradientMatching
from stillhouse.methods.common.utilities.trajectory_matching import TrajectoryMatching
from stillhouse.methods.matching.coordinates import Normalised, Whitened
from stillhouse.methods.matching.matched import Pixels

from tests.conftest import TINY
from tests.planning.configs import ancestor, sets_of, with_matching

MEAN, STD = PUBLISHED["imagenet"]
SETTINGS = {"learning_rate": 0.1, "momentum": 0.5, "clamp": False}
SHORT = {
    "dm": {"iterations": 7, "real_images": 5},
    "gm": {"iterations": 7, "real_images": 5, "outer_steps": 3, "inner_epochs": 1},
    "tm": {"iterations": 7, "learning_rate": 5, "experts": {"count": 2, "batch_size": 64}},
}
CLASSES = {
    "dm": DistributionMatching,
    "gm": GradientMatching,
    "tm": TrajectoryMatching,
}


def pixels_of(utility=None, coordinates=None, **settings):
    images = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1])
    coordinates = coordinates or Normalised("cpu")
    return Pixels(images, labels, {**SETTINGS, **settings}, utility, "x", coordinates)


def whitening():
    """Return a whitening of images whose neighbouring pixels are alike."""
    noise = torch.rand((300, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    return Whitening(*fit((255 * smooth).to(torch.uint8), 0.1))


class Distance(Utility):
    """Half the squared distance of images from grey, times a number."""

    def __init__(self, factor=1.0):
        self.factor, self.calls = factor, []

    def __call__(self, images, labels, iteration):
        """Return (loss, gradient)."""
        self.calls.append(iteration)
        difference = images - 0.5
        loss = self.factor * (difference**2).sum().item() / 2
        return loss, self.factor * difference


@pytest.mark.parametrize("whitened", [False, True])
def test_steps_are_those_of_gradient_descent_with_momentum_on_the_inputs(whitened):
    pixels = pixels_of(coordinates=Whitened(whitening()) if whitened else None)
    leaf = pixels.images.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([leaf], lr=0.1, momentum=0.5)

    def shown():
        if not whitened:
            return leaf * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        map_ = whitening()
        centred = torch.linalg.solve(map_.matrix, leaf.flatten(1).T).T
        return (centred + map_.mean).view(leaf.shape)

    for _ in range(4):
        torch.testing.assert_close(pixels.shown(), shown().detach())
        pixels.descend(Distance()(pixels.shown(), None, 0)[1])
        optimizer.zero_grad()
        (((shown() - 0.5) ** 2).sum() / 2).backward()
        optimizer.step()
        torch.testing.assert_close(pixels.images, leaf.detach())


def test_whitened_coordinates_are_the_inputs_of_the_networks():
    images, map_ = torch.rand((5, 3, 8, 8)), whitening()
    coordinates = Whitened(map_)
    torch.testing.assert_close(
        coordinates.of_normalised(normalise(images * 255)), map_(images * 255)
    )
    torch.testing.assert_close(coordinates.pixels(coordinates.of(images)), images)


def test_clamped_pixels_stay_in_the_range_of_bytes():
    pixels, free = pixels_of(clamp=True), pixels_of()
    for one in (pixels, free):
        one.descend(torch.full_like(one.images, -30.0))
    assert pixels.shown().min() >= -1e-6 and pixels.shown().max() <= 1 + 1e-6
    assert free.shown().max() > 1
    np.testing.assert_array_equal(pixels.bytes(), free.bytes())


def run(folder, utility, count=8, seconds=1e9, **settings):
    pixels = pixels_of(utility, **settings)
    side = Checkpoint(Context(work=folder, checkpoint_seconds=seconds))
    return pixels, *optimise(pixels, count, side)


def test_the_loss_falls_and_its_curve_is_stored(tmp_path):
    utility = Distance()
    pixels, curve, snapshots = run(tmp_path, utility, learning_rate=5.0)
    assert utility.calls == list(range(8))
    assert len(curve["distance"]) == 8 and curve["distance"][-1] < 0.1 * curve["distance"][0]
    assert snapshots.shape == (5, 2, 3, 8, 8)
    assert torch.equal(snapshots[-1], torch.from_numpy(pixels.bytes([0, 2])))


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error(tmp_path, factor):
    with pytest.raises(
        StillhouseError, match=r"^x: diverged in iterations 1 to 1, distance (nan|inf), none"
    ):
        run(tmp_path, Distance(factor))


def test_images_that_are_not_finite_at_the_end_are_an_error(tmp_path):
    with pytest.raises(StillhouseError, match=r"^x: pixels is not finite after iteration 1; lower"):
        run(tmp_path, Distance(), count=1, learning_rate=float("inf"))


# The stage


def small():
    """Return a small config of the three methods with a few iterations."""
    config = with_matching(copy.deepcopy(TINY))
    for kind, settings in SHORT.items():
        config["methods"][kind] |= settings
    config["experiments"]["x"] |= {"ipc": [2], "seeds": [0]}
    return config


def only_sets(wanted):
    """Return a plan without its students."""
    wanted.families["students"].clear()
    return wanted


@pytest.fixture(scope="module")
def finished(tmp_path_factory, planned, make_all):
    """Make the sets of the three methods; return folder and plan."""
    folder, wanted = tmp_path_factory.mktemp("matching"), only_sets(planned(small()))
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimisation, "N_POINTS", 3)
        make_all(wanted)
    return SimpleNamespace(folder=folder, plan=wanted)


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """Change into a copy of the sets of the three methods; return the plan."""
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return finished.plan


@pytest.fixture
def made(copied, planned, make_all):
    """Return a function that makes the set of a kind with other settings; return its artifact."""

    def made(kind, distill_seed=0, **changes):
        config = small()
        config["methods"][kind] |= changes
        config["experiments"]["x"] |= {"methods": [kind], "distill_seeds": [distill_seed]}
        plan = only_sets(planned(config))
        make_all(plan)
        return sets_of(plan)[kind]

    return made


@pytest.mark.parametrize("kind", SHORT)
def test_sets_have_the_images_of_their_classes_and_hard_labels(made, kind):
    artifact = made(kind)
    images = DistilledSet(artifact.file)
    assert images.class_ids == ["0", "0", "1", "1", "2", "2"]
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    folder = ancestor(artifact, "matched").directory
    rows = store.read_table(folder / "images.parquet").to_pylist()
    assert [(r["class_id"], r["index"]) for r in rows] == [(c, i) for c in "012" for i in (0, 1)]
    stored = np.stack([decode(row["image"]["bytes"]) for row in rows])
    np.testing.assert_array_equal(images.images, stored)
    snapshots = store.read_table(folder / "snapshots.parquet").to_pylist()
    assert [row["iteration"] for row in snapshots] == [n for n in (0, 1, 3, 5, 7) for _ in "012"]
    first, last = (
        np.stack([decode(row["image"]["bytes"]) for row in rows])
        for rows in (snapshots[:3], snapshots[-3:])
    )
    np.testing.assert_array_equal(last, stored[::2])
    assert (first != last).any(axis=(1, 2, 3)).all()


def test_only_tm_has_a_learned_rate(made):
    rates = {kind: DistilledSet(made(kind).file).learning_rate for kind in SHORT}
    assert rates["dm"] is rates["gm"] is None
    assert rates["tm"] > 0 and rates["tm"] != 0.01


def test_a_rate_that_is_not_learned_is_the_given_one(made):
    fixed = made("tm", student_rate_step=0, student_rate=0.25)
    assert DistilledSet(fixed.file).learning_rate == 0.25


@pytest.mark.parametrize("initial", ["noise", "real", "random"])
def test_images_start_from_noise_real_images_or_a_set(made, initial):
    artifact = made("dm", initial=initial, iterations=4)
    path = ancestor(artifact, "matched").directory / "snapshots.parquet"
    rows = store.read_table(path).to_pylist()
    start = np.stack([decode(row["image"]["bytes"]) for row in rows[:3]])
    if initial == "random":
        (given,) = (p for n, p in ancestor(artifact, "matched").parts() if n == "initial")
        np.testing.assert_array_equal(start, DistilledSet(given.file).images[::2])
    # Digits are grey, noise is not.
    grey = (start == start[:, :1]).all()
    assert grey == (initial != "noise")


@pytest.mark.parametrize(("kind", "seconds"), [("dm", 0), ("dm", 1000), ("gm", 0), ("tm", 0)])
def test_a_resumed_optimisation_has_the_same_bytes(
    copied, make, interrupt, monkeypatch, kind, seconds
):
    monkeypatch.setattr(optimisation, "N_POINTS", 3)
    artifact = ancestor(sets_of(copied)[kind], "matched")
    files = [artifact.directory / name for name in artifact.stage.files]
    undisturbed = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    calls = interrupt(CLASSES[kind], "__call__", 6)
    with pytest.raises(KeyboardInterrupt):
        make(artifact, checkpoint_seconds=seconds)
    make(artifact, checkpoint_seconds=seconds)
    assert len(calls) == 6 + (2 if seconds == 0 else 7)
    assert [path.read_bytes() for path in files] == undisturbed


def test_a_seed_gives_other_images(made):
    one, other = (DistilledSet(made("dm", seed).file).images for seed in (0, 1))
    assert not torch.equal(one, other)
