"""The stages of compressed and optimised sets: results, resuming, files."""

import contextlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data.bitstream import files
from stillhouse.data.bitstream.layout import Layout
from stillhouse.data.distilled_set import DistilledSet, LearnedParts, read_learned
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.optimisation import optimise
from stillhouse.methods.common.utilities.base import Utility
from stillhouse.methods.registry import method
from stillhouse.methods.ruo import bound, compression, rate_utility
from stillhouse.methods.ruo.codec import Codec
from stillhouse.methods.ruo.images import FILE
from stillhouse.planning.inputs import job_inputs
from stillhouse.training.loop import Diverged

from tests.methods.ruo.configs import DM, GM, TM, WARMUP, coded, compressed

LONG = {**WARMUP, "restarts": 1, "iterations": 120, "final_iterations": 0}
BOUNDS = [1e-2, 1e-4, 1e-6]
METHODS = {
    "random": {"kind": "random"},
    **{f"slice-{size}": compressed(slice=size) for size in ("class", "set", 1)},
    **{
        f"beta-{beta}": compressed(slice="set", initial="random", warmup={**LONG, "beta": beta})
        for beta in (100, 100_000)
    },
    **{"dm": DM, "gm": GM, "tm": TM},
    "bounds": {**DM, "bounds": BOUNDS, "holdout": 0.25},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, planned, make_all):
    """Make the sets of all methods; return folder and plan."""
    folder = tmp_path_factory.mktemp("sets")
    wanted = only_sets(planned(coded(**METHODS)))
    with contextlib.chdir(folder):
        make_all(wanted)
    return SimpleNamespace(folder=folder, plan=wanted)


@pytest.fixture
def sets(finished, monkeypatch):
    """Change into the folder of the sets, which must not be modified; return the plan."""
    monkeypatch.chdir(finished.folder)
    return finished.plan


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """Change into a copy of the folder of the sets; return the plan."""
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return finished.plan


def set_of(wanted, name):
    """Return a method's distilled set."""
    sets = wanted.artifacts["distilled"].values()
    return next(one for one in sets if one.slug == name)


def bits_of(artifact):
    """Return the bitstreams of a set."""
    stored = artifact.upstream["bitstream"]
    return [Path(stored.member_file(number)) for number in range(stored.n_members)]


def only_sets(wanted):
    """Return a plan without its students."""
    del wanted.families["students"]
    return wanted


@pytest.mark.parametrize(("size", "count"), [("class", 3), ("set", 1), (1, 6)])
def test_a_set_has_the_images_of_its_bitstreams(sets, size, count):
    artifact = set_of(sets, f"slice-{size}")
    paths, stored = bits_of(artifact), DistilledSet(artifact.file)
    assert len(paths) == count
    contents = [files.read(path.read_bytes(), path) for path in paths]
    assert (stored.images.numpy() == np.concatenate([one.images() for one in contents])).all()
    assert stored.labels.tolist() == np.concatenate([one.labels for one in contents]).tolist()
    expected = sum(path.stat().st_size for path in paths)
    assert method("compressed").storage_bytes(artifact.spec()) == {"image_bytes": expected}


def test_compressed_images_resemble_the_set_that_they_start_from(sets):
    real, coarse = (
        DistilledSet(set_of(sets, name).file).images for name in ("random", "beta-100000")
    )
    error = ((real.float() - coarse.float()) / 255).square().mean()
    assert error < 0.25 * (real.float() / 255).var()


def test_a_higher_beta_takes_more_bits_and_distorts_less(sets):
    results = []
    for beta in (100, 100_000):
        stored = set_of(sets, f"beta-{beta}").upstream["bitstream"]
        folder = stored.upstream["compression"].directory
        results += store.read_json(folder / "slice0" / "curve.json")["runs"]
    low, high = results
    assert low["bits_per_pixel"] < high["bits_per_pixel"] and low["psnr"] < high["psnr"]


@pytest.mark.parametrize(("number", "seconds"), [(3, 0), (11, 0), (18, 0), (11, 1000)])
def test_a_resumed_warm_up_has_the_same_bytes(copied, make, interrupt, number, seconds):
    artifact = set_of(copied, "slice-set").upstream["bitstream"].upstream["compression"]
    folder = artifact.directory / "slice0"
    before = {name: (folder / name).read_bytes() for name in artifact.stage.files}
    for name in before:
        (folder / name).unlink()
    calls = interrupt(compression, "annealed", number)
    with pytest.raises(KeyboardInterrupt):
        make(artifact, [0], checkpoint_seconds=seconds)
    make(artifact, [0], checkpoint_seconds=seconds)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert len(calls) == number + 20 - (number - 1 if seconds == 0 else 0)


@pytest.mark.parametrize("name", ["dm", "gm", "tm"])
def test_a_resumed_joint_optimisation_has_the_same_bytes(copied, make, interrupt, name):
    artifact = set_of(copied, name).upstream["state"]
    before = {name: (artifact.directory / name).read_bytes() for name in artifact.stage.files}
    for name in before:
        (artifact.directory / name).unlink()
    calls = interrupt(rate_utility.Joint, "step", 5)
    with pytest.raises(KeyboardInterrupt):
        make(artifact, checkpoint_seconds=0)
    make(artifact, checkpoint_seconds=0)
    assert {name: (artifact.directory / name).read_bytes() for name in before} == before
    assert len(calls) == 5 + 3


def test_the_learned_rate_of_tm_is_stored_with_the_set(sets):
    rate = read_learned(set_of(sets, "tm").file).learning_rate
    assert rate > 0 and rate != 0.01
    assert read_learned(set_of(sets, "dm").file) is None


def test_the_curve_has_utility_rate_and_psnr(sets):
    folder = set_of(sets, "dm").upstream["state"].directory
    curve = store.read_json(folder / "curve.json")["curve"]
    assert {name: len(values) for name, values in curve.items()} == {
        **{"utility": 7, "bits_per_pixel": 7, "psnr": 7}
    }
    snapshots = store.read_table(folder / "snapshots.parquet")
    assert snapshots["iteration"].to_pylist() == [i for i in (0, 1, 3, 5, 7) for _ in range(3)]


def test_of_several_bounds_the_best_on_held_out_images_is_used(sets):
    stored = set_of(sets, "bounds").upstream["bitstream"]
    choice = store.read_json(stored.upstream["bound"].directory / "bound.json")
    candidates = {one["bound"]: one for one in choice["candidates"]}
    assert sorted(candidates) == sorted(BOUNDS)
    assert choice["bound"] == min(candidates, key=lambda one: candidates[one]["loss"])
    rates = [candidates[one]["bits_per_pixel"] for one in BOUNDS]
    assert rates == sorted(rates)
    report = store.read_json(stored.directory / "slice0" / "report.json")
    assert report["bound"] == choice["bound"] and report["error"] <= choice["bound"]


def test_the_size_of_a_file_is_that_of_its_estimate(sets):
    folder = set_of(sets, "beta-100000").upstream["bitstream"].directory / "slice0"
    report = store.read_json(folder / "report.json")
    estimate = sum(report["estimate"].values()) / 8
    assert abs((folder / FILE).stat().st_size - estimate) <= 0.01 * estimate + 64


def test_held_out_images_are_not_optimised_for(sets):
    spec = set_of(sets, "bounds").upstream["state"].spec()
    inputs = job_inputs(spec)
    own, other = (
        rate_utility.training_utility(inputs, spec, Context(), held_out=held_out).real
        for held_out in (False, True)
    )
    total = [count for _, count in own.ranges]
    for (start, count), (first, rest) in zip(own.ranges, other.ranges, strict=True):
        assert start + count == first and rest == -(-(count + rest) // 4)
    assert len(own.pixels) == sum(total) + sum(count for _, count in other.ranges)


class Quadratic(Utility):
    """A utility of which the gradient is known: Σ (images - 1/2)²."""

    def __call__(self, images, labels, iteration):
        return float(((images - 0.5) ** 2).sum()), 2 * (images - 0.5)


def test_a_bound_is_chosen_with_the_learned_rate(sets, monkeypatch):
    spec = set_of(sets, "bounds").upstream["bitstream"].upstream["bound"].spec()
    inputs, rates = job_inputs(spec), []

    class Recording(Quadratic):
        def state(self):
            rates.append(self.learning_rate)
            return {}

        def restore(self, state):
            pass

    monkeypatch.setattr(bound, "training_utility", lambda *_, **__: Recording())
    monkeypatch.setattr(bound, "learned_parts", lambda *_: LearnedParts(learning_rate=0.125))
    bound.bound(inputs, spec, Context())(None, Context())
    assert rates == [0.125]


@pytest.mark.parametrize("held", [2**21, 100, 0])
def test_the_gradient_is_that_of_utility_and_rate_together(monkeypatch, held):
    monkeypatch.setattr(rate_utility, "HELD_PIXELS", held)
    layout = Layout(8, (12, 0), 8, 1)
    parts = []
    for number, n in enumerate((1, 2, 2)):
        codec = Codec(layout, n)
        vector = codec.initial(generator(0, "test", item=number))
        rng = generator(1, "test", item=number)
        noise = torch.from_numpy(rng.standard_normal(len(vector), np.float32))
        parts.append((codec, vector + 0.05 * noise))
    settings = {"lambda": [3.0, 1.0], "iterations": 2, "learning_rate": 0.0, "ramp": 0}
    settings |= {"noise": "gaussian", "clip": 1e9}
    joint = rate_utility.Joint(parts, torch.zeros(5).long(), settings, 0, Quadratic(), "x")
    gradients = []
    for one in joint.optimisers:
        monkeypatch.setattr(
            one, "step", lambda rate, one=one: gradients.append(one.vector.grad.clone())
        )
    joint.step(0)
    for number, (one, gradient) in enumerate(zip(joint.optimisers, gradients, strict=True)):
        one.vector.grad = None
        images, bits = joint._forward(number, 0)
        loss = 3.0 * ((images - 0.5) ** 2).sum() + bits / one.codec.n_pixels
        loss.backward()
        torch.testing.assert_close(gradient, one.vector.grad, atol=1e-5, rtol=1e-4)


def test_a_compression_that_diverges_is_one_line(planned, make_all, empty):
    settings = compressed(warmup={**WARMUP, "learning_rate": 1e30, "clip": 1e30})
    wanted = only_sets(planned(coded(a=settings)))
    with pytest.raises(StillhouseError, match=r"slice 0: diverged .* warmup\.learning_rate"):
        make_all(wanted)


def test_a_utility_that_is_not_finite_is_one_line(tmp_path):
    class Broken(Utility):
        def __call__(self, images, labels, iteration):
            return float("nan"), images

    codec = Codec(Layout(8, (12, 0), 8, 1), 1)
    part = codec, codec.initial(generator(0, "test"))
    settings = {"lambda": [1.0], "iterations": 2, "learning_rate": 0.1, "ramp": 0}
    settings |= {"noise": "gaussian", "clip": 1.0}
    joint = rate_utility.Joint([part], torch.zeros(1).long(), settings, 0, Broken(), "results/x")
    message = r"^results/x: diverged in .*, utility nan, .* joint\.learning_rate, now 0\.1"
    with pytest.raises(Diverged, match=message):
        optimise(joint, 2, Checkpoint(Context(work=tmp_path)))
