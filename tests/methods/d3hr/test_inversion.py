import numpy as np
import pipelines
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.jobs import produce
from stillhouse.artifacts.rng import generator
from stillhouse.diffusion.ddim import invert, sample
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.methods.d3hr import inversion
from stillhouse.methods.d3hr.method import INVERSION
from stillhouse.methods.d3hr.normality import Moments, normality

COUNT, SNAPSHOTS = 70, [2, 4]
SETTINGS = {
    "steps": 5,
    "snapshots": SNAPSHOTS,
    "guidance": 1.5,
    "latents": "sample",
    "start": "clean",
    "noising": "ddim_inversion",
    "images_per_class": "all",
    "precision": "float32",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pipelines.tiny_dit(tmp_path_factory.mktemp("pipeline") / "dit", learned=True)


def write_latents(at, count):
    """Write latents of class 1 as the stage does."""
    rng = np.random.default_rng(0)
    mean = torch.from_numpy(rng.standard_normal(count * 64, np.float32))
    tensors = {"mean": mean, "std": torch.full_like(mean, 0.1)}
    tensors["sizes"] = torch.tensor([[4, 4, 4]] * count, dtype=torch.int32)
    files = {"images.json": [f"im{i}" for i in range(count)], "latents.safetensors": tensors}
    store.write(at, {"address": str(at)}, files)
    return at / "latents.safetensors"


@pytest.fixture
def made(folder, empty):
    """Return a function that inverts class 1, and the denoiser."""
    path, roots = pipelines.denoiser(folder, "dit", "denoiser")

    def make(label="x", count=COUNT, resources=(), **changes):
        source = empty / f"results/latents/{count}/1"
        if not source.exists():
            write_latents(source, count)
        at = f"results/inversion/{label}"
        spec = {
            "stage": "inversion",
            "settings": SETTINGS | changes,
            "keys": {},
            "address": at,
            "digest": "",
        }
        inputs = {"latents": {"1": source / "latents.safetensors"}, "denoiser": path}
        shared = {"device": "cpu", "batch_size": 32, "weight_folders": roots, **dict(resources)}
        produce(INVERSION, inputs, spec, ["1"], shared)
        tensors, quality = (f"{at}/1/{name}" for name in INVERSION.files)
        return store.read_tensors(tensors), store.read_json(quality)

    return make, load_denoiser(path, {"precision": "float32"}, Context(weight_folders=roots))


def latents_of(count=COUNT):
    """Return the posterior draws of the class by hand."""
    rng = np.random.default_rng(0)
    mean = rng.standard_normal(count * 64, np.float32).reshape(count, 4, 4, 4)
    draws = [
        generator(0, "posterior", "1", f"im{i}").standard_normal((4, 4, 4), np.float32)
        for i in range(count)
    ]
    return torch.from_numpy(mean + np.float32(0.1) * np.stack(draws))


def test_moments_are_those_of_all_latents_at_each_snapshot(made):
    make, denoiser = made
    actual, quality = make()
    before = latents_of()
    up = invert(denoiser, before, denoiser.condition("1"), 1.5, 5, SNAPSHOTS)
    assert actual["mean"].shape == actual["variance"].shape == (2, 64)
    for i, count in enumerate(SNAPSHOTS):
        flat = up[count].flatten(1)
        torch.testing.assert_close(actual["mean"][i], flat.mean(0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(actual["variance"][i], flat.var(0), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(actual["after"][i].float(), flat[:64], atol=0.01, rtol=0.01)
        moments = Moments()
        moments.add(flat)
        assert quality["after"][f"{count}"] == pytest.approx(normality(moments), rel=1e-4)
    assert not torch.allclose(actual["mean"][0], actual["mean"][1], atol=0.02)
    torch.testing.assert_close(
        actual["before"].float(), before.flatten(1)[:64], atol=0.01, rtol=0.01
    )
    assert actual["before"].dtype == actual["after"].dtype == torch.float16
    assert actual["mean"].dtype == actual["variance"].dtype == torch.float32
    shapes = {"snapshots": SNAPSHOTS, "count": [COUNT], "shape": [4, 4, 4]}
    for name, values in shapes.items():
        assert actual[name].dtype == torch.int64 and actual[name].tolist() == values
    assert quality["before"].keys() == {"skewness", "kurtosis", "normal_share"}
    assert 2 < quality["before"]["kurtosis"] < 4


def test_round_trips_compare_latents_and_decoded_images(made):
    make, denoiser = made
    _, quality = make()
    before, condition = latents_of()[:16], denoiser.condition("1")
    for count in SNAPSHOTS:
        up = invert(denoiser, before, condition, 1.5, 5, [count])[count]
        back = sample(denoiser, up, condition, 1.5, 5, count)
        pair = [denoiser.decode(latents) for latents in (before, back)]
        error = (pair[0] - pair[1]).square().mean((1, 2, 3))
        actual = quality["round_trip"][f"{count}"]
        assert actual["images"] == 16
        assert actual["latent_mse"] == pytest.approx(
            (back - before).square().mean().item(), rel=0.01
        )
        wanted = 10 * torch.log10(4 / error).mean().item()
        assert actual["psnr"] == pytest.approx(wanted, abs=0.05)


@pytest.mark.parametrize(
    "change", [{"start": "zero"}, {"guidance": 1}, {"latents": "mode"}, {"noising": "forward"}]
)
def test_settings_change_the_result(made, change):
    make, _ = made
    actual, _ = make("y", 8, **change)
    usual, _ = make("x", 8)
    assert not torch.allclose(actual["mean"], usual["mean"], atol=1e-4)


def test_forward_noising_adds_noise_of_the_image(made):
    make, denoiser = made
    actual, quality = make(count=8, resources={"batch_size": 6}, noising="forward")
    before = latents_of(8)
    draws = [
        generator(0, "diffusion", "1", f"im{i}").standard_normal((4, 4, 4), np.float32)
        for i in range(8)
    ]
    for i, level in enumerate([200, 600]):
        noised = denoiser.schedule.add_noise(before, torch.from_numpy(np.stack(draws)), level)
        torch.testing.assert_close(actual["mean"][i], noised.flatten(1).mean(0))
    assert quality["round_trip"]["2"]["images"] == 8
    assert quality["after"]["2"]["normal_share"] is None


def test_results_do_not_depend_on_the_batch_size(made):
    make, _ = made
    tensors, quality = make("a", 5)
    for size in (1, 4):
        other, same = make(f"b{size}", 5, {"batch_size": size})
        for name, tensor in tensors.items():
            atol = 2e-3 if tensor.dtype == torch.float16 else 1e-5
            torch.testing.assert_close(other[name], tensor, atol=atol, rtol=1e-4)
        assert same["round_trip"]["4"] == pytest.approx(quality["round_trip"]["4"], rel=1e-3)


def test_a_single_image_has_no_variance(made):
    make, _ = made
    actual, quality = make(count=1)
    assert actual["before"].shape == (1, 64) and actual["after"].shape == (2, 1, 64)
    assert not actual["variance"].any() and actual["mean"].isfinite().all()
    assert quality["before"]["kurtosis"] is None


@pytest.mark.parametrize("seconds", [0, 1000])
def test_a_resumed_inversion_has_the_same_bytes(made, empty, interrupt, seconds):
    make, _ = made
    make("undisturbed")
    calls = interrupt(inversion, "invert", 3)
    resources = {"checkpoint_seconds": seconds}
    with pytest.raises(KeyboardInterrupt):
        make("resumed", resources=resources)
    assert len(calls) == 3
    make("resumed", resources=resources)
    # Of five batches, two were in the checkpoint, or none if no save was due.
    assert len(calls) == 3 + (3 if seconds == 0 else 5)
    for name in INVERSION.files:
        undisturbed, resumed = (
            empty / f"results/inversion/{label}/1/{name}" for label in ("undisturbed", "resumed")
        )
        assert undisturbed.read_bytes() == resumed.read_bytes()


def test_fewer_images_are_a_part_of_more_and_keep_their_order():
    assert inversion.sampled_rows(9, "all", "a") == list(range(9))
    few, more = (inversion.sampled_rows(50, count, "a") for count in (5, 20))
    assert set(few) < set(more) < set(range(50))
    assert more == sorted(more) and len(more) == 20
    assert more != inversion.sampled_rows(50, 20, "b")
    assert inversion.sampled_rows(3, 20, "a") == [0, 1, 2]


def test_statistics_are_of_the_sampled_images(made):
    make, _ = made
    complete, _ = make("all")
    few, _ = make("some", images_per_class=12)
    assert few["count"].item() == 12 and complete["count"].item() == COUNT
    rows = inversion.sampled_rows(COUNT, 12, "1")
    stored = [i for i in rows if i < len(complete["before"])]
    wanted = complete["before"][stored]
    assert torch.equal(few["before"][: len(stored)], wanted)
    assert not torch.allclose(few["mean"], complete["mean"])
