import numpy as np
import pipelines
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data.codecs import decode as decode_image
from stillhouse.diffusion import decode
from stillhouse.diffusion.ddim import denoise, sample
from stillhouse.diffusion.denoisers import load_denoiser

COMMON = {"steps": 10, "guidance": 1.5, "precision": "float32"}
D3HR = COMMON | {"sampling": "from_noise", "inversion_steps": 7, "start": "aligned"}
D4M = COMMON | {"sampling": "image_to_image", "strength": 0.7}
LATENTS = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 4, 4, 4), np.float32))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    at = tmp_path_factory.mktemp("pipelines")
    return {
        "dit": pipelines.tiny_dit(at / "dit"),
        "stable_diffusion": pipelines.tiny_stable_diffusion(at / "sd"),
    }


@pytest.fixture
def made(folders, empty):
    """Return a function that decodes latents as class 1, and one that loads the denoiser."""

    def make(settings, latents=LATENTS, kind="dit", seed=5, batch_size=64, label="x"):
        path, roots = pipelines.denoiser(folders[kind], kind, f"{kind}-{label}")
        start = empty / f"start-{label}/1"
        store.write(start, {"address": str(start)}, {"samples.safetensors": {"latents": latents}})
        spec = {"stage": "decode", "settings": settings, "keys": {"class_id": "1", "seed": seed}}
        inputs = {"start": {"1": start / "samples.safetensors"}, "denoiser": path}
        context = Context(batch_size=batch_size, weight_folders=roots)
        table = decode.decode(inputs, spec, context)("1", context)["images.parquet"]
        assert table.schema == decode.SCHEMA
        assert table["index"].to_pylist() == list(range(len(latents)))
        images = [decode_image(row["bytes"]) for row in table["image"].to_pylist()]
        return np.stack(images).astype(int), load_denoiser(
            path, settings, Context(weight_folders=roots)
        )

    return make


def shown(denoiser, latents):
    """Return pixels by hand, not rounded."""
    return (denoiser.decode(latents).numpy() / 2 + 0.5) * 255


@pytest.mark.parametrize("start", ["aligned", "next"])
def test_samples_are_denoised_from_their_level(made, start):
    settings = D3HR | {"start": start}
    actual, denoiser = made(settings)
    assert actual.shape == (6, 3, 8, 8) and len(np.unique(actual)) > 20
    clean = sample(denoiser, LATENTS, denoiser.condition("1"), 1.5, 10, 7, start)
    assert abs(actual - shown(denoiser, clean)).max() < 0.51


def test_starts_differ(made):
    assert (made(D3HR)[0] != made(D3HR | {"start": "next"}, label="y")[0]).any()


def test_texts_condition_samples(made):
    settings = D3HR | {"prompts": ["an image of {}", "image"]}
    actual, denoiser = made(settings, kind="stable_diffusion")
    clean = sample(denoiser, LATENTS, denoiser.condition("1"), 1.5, 10, 7)
    assert abs(actual - shown(denoiser, clean)).max() < 0.51


@pytest.mark.parametrize("strength, levels", [(0.7, 7), (0.35, 3), (1.0, 10), (0.05, 0)])
def test_prototypes_are_noised_to_the_level_of_the_strength(made, strength, levels):
    actual, denoiser = made(D4M | {"strength": strength})
    clean = LATENTS
    if levels:
        draws = [
            generator(5, "noise", "1", i).standard_normal((4, 4, 4), np.float32) for i in range(6)
        ]
        times = list(range(0, levels * 100, 100))[::-1]
        noised = denoiser.schedule.add_noise(LATENTS, torch.from_numpy(np.stack(draws)), times[0])
        clean = denoise(denoiser, noised, denoiser.condition("1"), 1.5, times)
    assert abs(actual - shown(denoiser, clean)).max() < 0.51


class Dummy:
    """A denoiser that does not change latents and records the levels of its calls."""

    device = torch.device("cpu")

    def __init__(self):
        self.schedule, self.asked = self, []

    def grid(self, steps):
        return [i * (1000 // steps) for i in range(steps)]

    def condition(self, class_id):
        return torch.zeros(1)

    def add_noise(self, latents, noise, level):
        return self.predict(latents, level, None)

    def predict(self, latents, level, condition):
        self.asked.append(level)
        return latents

    def move(self, latents, *_):
        return latents


@pytest.mark.parametrize("steps, strength", [(50, 0.7), (50, 0.75), (30, 0.99), (7, 0.3)])
def test_strength_is_counted_as_by_diffusers(steps, strength):
    # StableDiffusionImg2ImgPipeline.get_timesteps.
    begin = max(steps - min(int(steps * strength), steps), 0)
    wanted = [i * (1000 // steps) for i in range(steps)][::-1][begin:]
    denoiser, settings = Dummy(), {"steps": steps, "strength": strength, "guidance": 1}
    decode.image_to_image(LATENTS, denoiser, (0, "1", 0), settings)
    assert denoiser.asked == [wanted[0], *wanted]


@pytest.mark.parametrize("settings", [D3HR, D4M])
def test_an_image_does_not_depend_on_the_rest_of_the_batch(made, settings):
    together, _ = made(settings)
    for label, size in (("one", 1), ("seven", 7)):
        apart, _ = made(settings, batch_size=size, label=label)
        assert abs(apart - together).max() <= 1
        assert (apart != together).mean() < 0.001
    fewer, _ = made(settings, LATENTS[:2], label="fewer")
    assert abs(fewer - together[:2]).max() <= 1


def test_only_prototypes_get_noise_by_the_seed(made):
    for settings, same in ((D3HR, True), (D4M, False)):
        label = str(same)
        pair = [made(settings, seed=seed, label=f"{label}{seed}")[0] for seed in (0, 1)]
        assert np.array_equal(*pair) == same
