import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from pipelines import denoiser, tiny_dit, tiny_stable_diffusion
from safetensors.torch import load_file, save_file
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.transforms import cut
from stillhouse.diffusion.pretrained import folder_digest
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.features import WHOLE, read_features
from stillhouse.methods.ddps import class_scores, patch_features
from stillhouse.methods.ddps.clip import CLIP_FILES, clip_files, load_clip
from stillhouse.networks.registry import global_generator

from tests.methods.ddps.test_class_scores import SIZES, Dummy, files, stacks_of

functional = torch.nn.functional
SETTINGS = {"features": "dift", "timestep": 16, "layer": 1, "ensemble": 3, "latents": "mode"}
BOX = ("top", "left", "height", "width")


class Deep(Dummy):
    """A denoiser with layers, whose grids are the latent's and half as fine."""

    def features(self, latents, timestep, condition, layer):
        actual = self.predict(latents, timestep, condition)
        return torch.cat([actual, actual**2], 1) if layer else functional.avg_pool2d(actual, 2)


def naive_features(stack, shares, denoiser, class_id, seed, settings):
    """Return features of one image and one draw at a time, cropped, then averaged (diff-mining)."""
    vectors, size = [], tuple(stack.shape[1:])
    for latent, share in zip(stack, shares, strict=True):
        draws = []
        for draw in range(settings["ensemble"]):
            rng = generator(seed, "dift", class_id, f"{draw} {'x'.join(map(str, size))}")
            noise = torch.from_numpy(rng.standard_normal(size, np.float32))
            alpha = float(denoiser.schedule.alphas[settings["timestep"]])
            noisy = (alpha**0.5 * latent + (1 - alpha) ** 0.5 * noise)[None]
            inputs = torch.tensor([settings["timestep"]]), denoiser.condition(class_id)
            draws.append(denoiser.features(noisy, *inputs, settings["layer"])[0])
        mean = torch.stack(draws).mean(0)
        (top, bottom), (left, right) = (
            (round(a * extent), round(b * extent))
            for (a, b), extent in zip(share, mean.shape[1:], strict=True)
        )
        inside = mean[:, top : max(bottom, top + 1), left : max(right, left + 1)]
        vectors.append(inside.mean((1, 2)) / inside.mean((1, 2)).norm())
    return torch.stack(vectors)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_features_are_those_of_single_images_and_draws(layer, batch_size):
    stacks, rng = stacks_of((9, 3, 4, 4), (2, 3, 4, 6)), np.random.default_rng(0)
    shares = [
        np.array([[[0, 0.5], [0.25, 1]], *np.sort(rng.random((len(stack) - 1, 2, 2)) * 0.7)])
        for stack in stacks
    ]
    settings = SETTINGS | {"layer": layer}
    actual = patch_features.dift_features(stacks, shares, Deep(), "cat", settings, 1, batch_size)
    for stack, share, vectors in zip(stacks, shares, actual, strict=True):
        assert vectors.dtype == np.float32
        wanted = naive_features(stack, share, Deep(), "cat", 1, settings)
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_only_the_condition_of_the_class_is_used(batch_size):
    network = Deep()
    (stack,) = stacks_of((3, 3, 4, 4))
    shares = [np.array([[[0, 1], [0, 1]]] * 3)]
    patch_features.dift_features([stack], shares, network, "cat", SETTINGS, 0, batch_size)
    assert [one for some in network.conditions for one in some] == [3] * 9


@pytest.mark.parametrize(
    "share, rows, columns",
    [
        ([[0, 1], [0, 1]], range(4), range(6)),
        ([[0.25, 0.5], [0.5, 1]], range(1, 2), range(3, 6)),
        ([[0.3, 0.32], [0.99, 1]], range(1, 2), range(5, 6)),
        ([[1, 1], [0, 0]], range(3, 4), range(1)),
    ],
)
def test_a_box_covers_at_least_one_position(share, rows, columns):
    wanted = torch.zeros(4, 6)
    wanted[rows.start : rows.stop, columns.start : columns.stop] = 1
    actual = patch_features.box_weights(np.array(share), 4, 6)
    torch.testing.assert_close(actual, wanted / wanted.sum())


def scored(folder, class_id, boxes):
    """Write the scores of a class, one box per image."""
    table = {name: [box[i] for box in boxes.values()] for i, name in enumerate(BOX)}
    nothing = dict.fromkeys(("map_height", "map"), [None] * len(boxes))
    table |= {"image_id": list(boxes), "score": [0.5] * len(boxes), **nothing}
    directory = folder / "scores" / class_id
    content = {"scores.parquet": pa.table(table, schema=class_scores.SCHEMA)}
    store.write(directory, {"address": str(directory)}, content)
    return {"scores": {class_id: directory / "scores.parquet"}}


def described(folder, make, class_id, batch_size=4):
    table = make(class_id, Context(batch_size=batch_size))["features.parquet"]
    directory = folder / f"features {batch_size}"
    store.write(directory, {"address": str(directory)}, {"f.parquet": table})
    return read_features(directory / "f.parquet")


BOXES = {"03": (0, 1, 9, 9), "00": (6, 0, 6, 8), "04": (4, 4, 4, 4), "02": (0, 0, 12, 8)}


@pytest.mark.parametrize("posterior", ["mode", "sample"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_features_of_patches_are_of_their_own_latents(tmp_path, monkeypatch, posterior, batch_size):
    class Encoding(Deep):
        """Also an encoder: latents of 2 × 2 pixels, and deviations that depend on them."""

        def encode(self, images):
            mean = functional.avg_pool2d(images, 2)
            return mean, mean.abs() / 2

    monkeypatch.setattr(patch_features, "load_denoiser", lambda *arguments: Encoding())
    inputs = files(tmp_path, "cat", SIZES, "aspect") | scored(tmp_path, "cat", BOXES)
    inputs["denoiser"] = tmp_path / "denoiser.json"
    # Latents of images are not read.
    images = inputs["images"]["cat"]
    del inputs["latents"]
    settings = {**SETTINGS, "latents": posterior, "dift_input": "patch", "patch": 9}
    spec = {"settings": settings, "keys": {"seed": 2}}
    make = patch_features.patch_features(inputs, spec, Context())
    actual = described(tmp_path, make, "cat", batch_size)
    assert list(actual) == [(name, WHOLE) for name in BOXES]
    rows = read_class(images, "train", {})
    for name, box in BOXES.items():
        pixels = torch.from_numpy(decode(rows.read(name), name).copy())[None]
        # 9 px are not a multiple of the two pixels of a position: 8 px.
        patch = cut(pixels, torch.tensor([box]), 8) / 127.5 - 1
        mean, std = Encoding().encode(patch)
        if posterior == "sample":
            rng = generator(0, "posterior of patches", "cat", name)
            mean = mean + std * torch.from_numpy(rng.standard_normal((3, 4, 4), np.float32))
        everything = [np.array([[0, 1], [0, 1]])]
        (wanted,) = naive_features(mean, everything, Deep(), "cat", 2, settings)
        np.testing.assert_allclose(actual[name, WHOLE], wanted, atol=1e-6)


@pytest.mark.parametrize("shape", ["aspect", "square"])
def test_features_are_of_the_boxes_in_the_latents(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(patch_features, "load_denoiser", lambda *arguments: Deep())
    inputs = files(tmp_path, "cat", SIZES, shape) | scored(tmp_path, "cat", BOXES)
    inputs["denoiser"] = tmp_path / "denoiser.json"
    spec = {"settings": SETTINGS, "keys": {"seed": 2}}
    actual = described(tmp_path, patch_features.patch_features(inputs, spec, Context()), "cat")
    assert list(actual) == [(name, WHOLE) for name in BOXES]
    for name, (top, left, height, width) in BOXES.items():
        full = SIZES[int(name)]
        ends = np.array([[top, top + height], [left, left + width]], float)
        if shape == "square":
            side = min(full)
            ends = np.clip((ends.T - [(extent - side) // 2 for extent in full]).T / side, 0, 1)
        else:
            ends = ends / np.array(full)[:, None]
        ((_, stack),) = class_scores.stacks_of(inputs["latents"]["cat"], [name], "mode", "cat")
        (wanted,) = naive_features(stack, [ends], Deep(), "cat", 2, SETTINGS)
        np.testing.assert_allclose(actual[name, WHOLE], wanted, atol=1e-6)


@pytest.mark.parametrize("kind, shape", [("dit", "square"), ("stable_diffusion", "aspect")])
def test_real_denoisers_score_and_describe(tmp_path, kind, shape):
    """Both stages with networks of diffusers; results do not depend on the batch."""
    folder = {"dit": tiny_dit, "stable_diffusion": tiny_stable_diffusion}[kind](tmp_path / "net")
    path, roots = denoiser(folder, kind, tmp_path / "denoiser")
    inputs = {"denoiser": path, **files(tmp_path, "1", SIZES, shape, channels=4)}
    common = {"latents": "sample", "precision": "float32", "prompts": ["an image of {}", ""]}
    settings = {"draws": 4, "timesteps": [0.1, 0.7], "images_per_class": 9}
    settings |= {"patch": 6 if kind == "stable_diffusion" else 0, **common}
    spec = {"settings": settings, "keys": {"seed": 0}}
    context = Context(weight_folders=roots)
    tables = [
        class_scores.class_scores(inputs, spec, context)("1", Context(batch_size=size))
        for size in (3, 64)
    ]
    few, many = (table["scores.parquet"].to_pydict() for table in tables)
    np.testing.assert_allclose(few["score"], many["score"], atol=1e-5)
    assert {k: few[k] for k in BOX} == {k: many[k] for k in BOX}
    boxes = dict(zip(few["image_id"], zip(*(few[k] for k in BOX), strict=True), strict=True))
    inputs |= scored(tmp_path, "1", boxes)
    spec["settings"] = {**SETTINGS, "timestep": 161, **common}
    made = [
        described(tmp_path, patch_features.patch_features(inputs, spec, context), "1", b)
        for b in (3, 64)
    ]
    for key, vector in made[0].items():
        np.testing.assert_allclose(vector, made[1][key], atol=1e-5)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_scores_and_features_of_a_network_that_overflows_are_an_error(tmp_path):
    folder = tiny_dit(tmp_path / "net")
    weights = folder / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["pos_embed.proj.weight"] *= 1e9
    save_file(tensors, weights)
    path, roots = denoiser(folder, "dit", tmp_path / "denoiser")
    inputs = {"denoiser": path, **files(tmp_path, "1", SIZES, "square", channels=4)}
    inputs |= scored(tmp_path, "1", BOXES)
    common = {"latents": "sample", "precision": "float16", "prompts": ["", ""]}
    scores = {"draws": 2, "timesteps": [0.1, 0.7], "images_per_class": 9, "patch": 0, **common}
    features = {**SETTINGS, "timestep": 161, **common}
    for stage, settings, what in (
        (class_scores.class_scores, scores, "errors of the noise predictor"),
        (patch_features.patch_features, features, "activations of the noise predictor"),
    ):
        make = stage(
            inputs, {"settings": settings, "keys": {"seed": 0}}, Context(weight_folders=roots)
        )
        with pytest.raises(
            StillhouseError, match=rf"{what} are not finite in float16 .*; set preci"
        ):
            make("1", Context(batch_size=4))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Save a tiny CLIP image tower; return its folder and the network."""
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "projection_dim": 6}
    heads = {"num_attention_heads": 2, "num_hidden_layers": 2}
    with global_generator(0, "tiny clip"):
        config = CLIPVisionConfig(image_size=10, patch_size=5, **sizes, **heads)
        net = CLIPVisionModelWithProjection(config).eval().requires_grad_(False)
    net.save_pretrained(folder)
    wanted = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.5, 0.2]}
    (folder / "preprocessor_config.json").write_text(json.dumps(wanted))
    return folder, net


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_clip_embeds_the_patches(tmp_path, clip, batch_size):
    folder, net = clip
    key = folder_digest(clip_files(folder))
    inputs = files(tmp_path, "cat", SIZES, "aspect") | scored(tmp_path, "cat", BOXES)
    spec = {"settings": {"features": "clip", "clip": {"sha256": key}}, "keys": {"seed": 0}}
    make = patch_features.patch_features(inputs, spec, Context(weight_folders={key: str(folder)}))
    actual = described(tmp_path, make, "cat", batch_size)
    assert list(actual) == [(name, WHOLE) for name in BOXES]
    rows = read_class(inputs["images"]["cat"], "train")
    for name, box in BOXES.items():
        pixels = torch.from_numpy(decode(rows.read(name)).copy())[None]
        patch = cut(pixels, torch.tensor([box]), 10) / 255
        mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
        std = torch.tensor([0.25, 0.5, 0.2]).view(3, 1, 1)
        (wanted,) = net(pixel_values=(patch - mean) / std).image_embeds
        np.testing.assert_allclose(actual[name, WHOLE], wanted / wanted.norm(), atol=1e-6)


def test_the_image_tower_of_a_complete_clip_model_is_loaded(tmp_path, clip):
    from transformers.models.clip.configuration_clip import CLIPConfig, CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    folder, net = clip
    text = CLIPTextConfig(
        vocab_size=9,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    both = CLIPConfig(
        text_config=text.to_dict(), vision_config=net.config.to_dict(), projection_dim=6
    )
    both_towers = CLIPModel(both).eval()
    both_towers.vision_model.load_state_dict(net.vision_model.state_dict())
    both_towers.visual_projection.load_state_dict(net.visual_projection.state_dict())
    both_towers.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_bytes(
        (folder / "preprocessor_config.json").read_bytes()
    )
    key = folder_digest(clip_files(tmp_path))
    actual, side, _, _ = load_clip({"sha256": key}, {key: tmp_path}, torch.device("cpu"))
    image = torch.ones(1, 3, 10, 10)
    assert side == 10
    torch.testing.assert_close(actual(image).image_embeds, net(image).image_embeds)


@pytest.fixture
def wrong(tmp_path, clip):
    """Return a copy of the tiny CLIP, and a function that loads it and returns the error."""
    folder, _ = clip
    for name in CLIP_FILES:
        (tmp_path / name).write_bytes((folder / name).read_bytes())

    def failure(key=None):
        with pytest.raises(StillhouseError) as caught:
            digest = key or folder_digest(clip_files(tmp_path))
            load_clip({"sha256": digest}, {digest: str(tmp_path)}, torch.device("cpu"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return tmp_path, failure


def test_clip_is_read_from_safetensors_alone(wrong):
    folder, failure = wrong
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "model.safetensors: missing; must be" in failure()


def test_another_model_is_an_error(wrong):
    folder, failure = wrong
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    assert "model_type: invalid 'vit'; must be clip" in failure()


def test_a_changed_clip_is_an_error(wrong):
    folder, failure = wrong
    key = folder_digest(clip_files(folder))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert f"must be {key}" in failure(key)
