import json
import shutil
from types import SimpleNamespace

import numpy as np
import pipelines
import pytest
import torch
from stillhouse.artifacts import formats, store
from stillhouse.artifacts.context import Context
from stillhouse.diffusion import pretrained
from stillhouse.diffusion.ddim import guided
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.errors import StillhouseError

FLOAT32 = {"precision": "float32"}
PROMPTS = ["an image of {}", "image"]
SETTINGS = {
    "dit": FLOAT32,
    "learned": FLOAT32,
    "stable_diffusion": {**FLOAT32, "prompts": PROMPTS},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return tiny pipelines by name; must not be modified."""
    at = tmp_path_factory.mktemp("pipelines")
    return {
        "dit": pipelines.tiny_dit(at / "dit"),
        "learned": pipelines.tiny_dit(at / "learned", learned=True),
        "stable_diffusion": pipelines.tiny_stable_diffusion(at / "sd"),
    }


def kind_of(name):
    return "dit" if name == "learned" else name


def load(folder, name, at, settings=None, **changes):
    path, roots = pipelines.denoiser(folder, kind_of(name), at / "artifact", **changes)
    return load_denoiser(path, settings or SETTINGS[name], Context(weight_folders=roots))


@pytest.fixture(params=SETTINGS)
def loaded(request, folders, tmp_path):
    """Return each kind of denoiser with its folder."""
    name = request.param
    return name, folders[name], load(folders[name], name, tmp_path)


def raw(folder, name):
    """Return the modules of a folder, loaded by diffusers and transformers."""
    from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    options = {"low_cpu_mem_usage": False}
    vae = AutoencoderKL.from_pretrained(folder / "vae", **options).eval()
    if name != "stable_diffusion":
        net = DiTTransformer2DModel.from_pretrained(folder / "transformer", **options).eval()
        return SimpleNamespace(vae=vae, net=net)
    return SimpleNamespace(
        vae=vae,
        net=UNet2DConditionModel.from_pretrained(folder / "unet", **options).eval(),
        text=CLIPTextModel.from_pretrained(folder / "text_encoder").eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
    )


def normal(*shape):
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape, np.float32))


@torch.no_grad()
def outputs(parts, name, latents, timestep, class_id):
    """Return the prediction of the raw network for a class or None."""
    if name != "stable_diffusion":
        number = torch.full((len(latents),), 3 if class_id is None else int(class_id))
        times = torch.full((len(latents),), timestep)
        return parts.net(latents, timestep=times, class_labels=number).sample[:, :4]
    text = "image" if class_id is None else f"an image of {['zero', 'one', 'two'][int(class_id)]}"
    tokens = parts.tokenizer([text] * len(latents), padding="max_length", return_tensors="pt")
    embedded = parts.text(tokens.input_ids)[0]
    return parts.net(latents, timestep, encoder_hidden_states=embedded).sample


def test_predictions_are_those_of_the_raw_modules(loaded):
    name, folder, net = loaded
    parts, latents = raw(folder, name), normal(3, 4, 4, 4)
    for class_id in ("0", "2", None):
        condition = net.null if class_id is None else net.condition(class_id)
        wanted = outputs(parts, name, latents, 600, class_id)
        condition = condition.expand(3, *condition.shape[1:])
        actual = net.predict(latents, 600, condition)
        assert actual.dtype == torch.float32 and not actual.requires_grad
        torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)
        many = net.predict(latents, torch.tensor([600, 20, 600]), condition)
        torch.testing.assert_close(many[::2], wanted[::2], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(many[1], wanted[1], atol=1e-4)
    null, conditional = (outputs(parts, name, latents, 600, c) for c in (None, "2"))
    assert not torch.allclose(null, conditional, atol=1e-4)
    wanted = null + 4 * (conditional - null)
    actual = guided(net, latents, 600, net.condition("2"), 4.0)
    torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-4)


def test_latents_are_scaled_and_images_clamped(loaded):
    name, folder, net = loaded
    vae, images = raw(folder, name).vae, normal(2, 3, 8, 8).clamp(-1, 1)
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
        mean, std = net.encode(images)
        torch.testing.assert_close(mean, posterior.mean * 0.7)
        torch.testing.assert_close(std, posterior.std * 0.7)
        decoded = vae.decode(normal(2, 4, 4, 4) * 30 / 0.7).sample
    actual = net.decode(normal(2, 4, 4, 4) * 30)
    torch.testing.assert_close(actual, decoded.clamp(-1, 1))
    assert decoded.abs().max() > 1 >= actual.abs().max()
    assert (net.factor, net.channels, net.resolution) == (2, 4, 8)
    assert net.schedule.alpha(-1) == 1.0


def test_labels_are_not_dropped(folders, tmp_path):
    net = load(folders["dit"], "dit", tmp_path)
    latents, condition = normal(64, 4, 4, 4)[:1].expand(64, 4, 4, 4), net.condition("1").expand(64)
    actual = net.predict(latents, 10, condition)
    torch.testing.assert_close(actual, actual[:1].expand_as(actual))
    assert net.null.tolist() == [3]


def test_v_predictions_become_noise(tmp_path):
    changes = {"scheduler": {"prediction_type": "v_prediction"}}
    folder = pipelines.tiny_dit(tmp_path / "v", **changes)
    net, latents = load(folder, "dit", tmp_path), normal(2, 4, 4, 4)
    v = outputs(raw(folder, "dit"), "dit", latents, 400, "1")
    alpha = net.schedule.alpha(400)
    actual = net.predict(latents, 400, net.condition("1").expand(2))
    torch.testing.assert_close(actual, alpha**0.5 * v + (1 - alpha) ** 0.5 * latents)


def test_features_are_those_of_a_layer_and_later_layers_do_not_run(loaded):
    name, folder, net = loaded
    latents, condition = normal(2, 4, 4, 4), net.condition("1")
    condition = condition.expand(2, *condition.shape[1:])
    parts, outputs_of = raw(folder, name), {}
    blocks = parts.net.up_blocks if name == "stable_diffusion" else parts.net.transformer_blocks
    for i, block in enumerate(blocks):
        block.register_forward_hook(lambda _, __, output, i=i: outputs_of.update({i: output}))
    outputs(parts, name, latents, 161, "1")
    ran = []
    net._layers()[-1].register_forward_pre_hook(lambda *_: ran.append(1))
    for layer, wanted in outputs_of.items():
        if name != "stable_diffusion":
            wanted = wanted.reshape(2, 2, 2, 16).permute(0, 3, 1, 2)
        actual = net.features(latents, 161, condition, layer)
        assert actual.shape == wanted.shape
        torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)
        assert len(ran) == (layer == len(blocks) - 1)
    net.predict(latents, 161, condition)
    assert len(ran) == 2
    for layer in (-1, len(blocks)):
        with pytest.raises(StillhouseError, match=f"must be 0 to {len(blocks) - 1}"):
            net.features(latents, 161, condition, layer)


@pytest.mark.parametrize("name", SETTINGS)
def test_bfloat16_is_autocast(name, folders, tmp_path):
    half = {**SETTINGS[name], "precision": "bfloat16"}
    net, parts = load(folders[name], name, tmp_path, half), raw(folders[name], name)
    latents, condition = normal(2, 4, 4, 4), net.condition("1")
    with torch.autocast("cpu", torch.bfloat16):
        wanted = outputs(parts, name, latents, 600, "1").float()
    exact = outputs(parts, name, latents, 600, "1")
    actual = net.predict(latents, 600, condition.expand(2, *condition.shape[1:]))
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, wanted, atol=0.01, rtol=0.01)
    assert 0 < (actual - exact).abs().max() < 0.1
    mean, std = net.encode(normal(2, 3, 8, 8))
    assert mean.dtype == std.dtype == net.decode(mean).dtype == torch.float32


def test_texts_are_embedded_once(folders, tmp_path):
    net = load(folders["stable_diffusion"], "stable_diffusion", tmp_path)
    assert net.condition("2") is net.condition("2")
    assert net.condition("2").shape == net.null.shape == (1, 77, 16)
    long = load(
        folders["stable_diffusion"],
        *("stable_diffusion", tmp_path / "long"),
        {**FLOAT32, "prompts": ["an image of {} " * 60, ""]},
    )
    assert long.condition("1").shape == (1, 77, 16)


def test_unknown_classes_are_named(loaded):
    _, _, net = loaded
    with pytest.raises(StillhouseError, match="class 'owl': unknown to the denoiser") as error:
        net.condition("owl")
    assert "\n" not in str(error.value) and "'0', '1', '2'" in str(error.value)


@pytest.mark.parametrize("name", ["dit", "stable_diffusion"])
def test_the_files_of_a_pipeline_are_all_that_is_loaded(name, folders, tmp_path):
    files = pretrained.weight_files(folders[name], name)
    for path in files:
        (tmp_path / "copy" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folders[name] / path, tmp_path / "copy" / path)
    assert pretrained.weight_files(tmp_path / "copy", name) == files
    net = load(tmp_path / "copy", name, tmp_path)
    assert net.condition("1") is not None
    for path, checksum in files.items():
        assert formats.checksum(folders[name] / path) == checksum
    digest = pretrained.folder_digest(files)
    assert digest == pretrained.folder_digest(dict(reversed(files.items()))) and len(digest) == 64
    assert digest != pretrained.folder_digest(files | {"model_index.json": "0" * 64})


@pytest.mark.parametrize("name", ["dit", "stable_diffusion"])
def test_files_that_are_missing_or_pickled_are_named(name, folders, tmp_path):
    folder = shutil.copytree(folders[name], tmp_path / "copy")
    part = "transformer" if name == "dit" else "unet"
    stem = folder / part / "diffusion_pytorch_model"
    safe = stem.with_suffix(".safetensors").rename(stem.with_suffix(".bin"))
    with pytest.raises(
        StillhouseError, match=r"model.bin is pickled and not read.*safe_serialization=True"
    ):
        pretrained.weight_files(folder, name)
    safe.unlink()
    with pytest.raises(StillhouseError, match=r"\*.safetensors: missing; save"):
        pretrained.weight_files(folder, name)
    wanted = ["vae/config.json", "scheduler/scheduler_config.json", "model_index.json"]
    for missing in [*wanted, *(["tokenizer/merges.txt"] if name != "dit" else [])]:
        broken = shutil.copytree(folders[name], tmp_path / missing.replace("/", "-"))
        (broken / missing).unlink()
        with pytest.raises(StillhouseError, match=f"{missing}: missing") as error:
            pretrained.weight_files(broken, name)
        assert "\n" not in str(error.value)


def test_another_model_is_an_error_and_the_old_name_of_dit_is_not(folders, tmp_path):
    folder = shutil.copytree(folders["dit"], tmp_path / "copy")
    path = folder / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"_class_name": "Transformer2DModel"}))
    assert load(folder, "dit", tmp_path).null.tolist() == [3]
    path.write_text(json.dumps(config | {"_class_name": "FluxTransformer2DModel"}))
    with pytest.raises(StillhouseError, match="invalid model FluxTransformer2DModel; must be DiT"):
        pretrained.weight_files(folder, "dit")
    path.write_text("[")
    with pytest.raises(StillhouseError, match="invalid JSON"):
        pretrained.weight_files(folder, "dit")


def test_weights_in_parts_are_loaded(folders, tmp_path):
    folder = shutil.copytree(folders["dit"], tmp_path / "copy")
    net = raw(folder, "dit").net
    shutil.rmtree(folder / "transformer")
    net.save_pretrained(folder / "transformer", max_shard_size="15KB")
    shards = [name for name in pretrained.weight_files(folder, "dit") if "-of-" in name]
    assert len(shards) > 1
    latents, actual = normal(1, 4, 4, 4), load(folder, "dit", tmp_path)
    wanted = outputs(SimpleNamespace(net=net.eval()), "dit", latents, 600, "0")
    torch.testing.assert_close(actual.predict(latents, 600, actual.condition("0")), wanted)
    (folder / shards[0]).unlink()
    with pytest.raises(StillhouseError, match=r"-of-.*: missing"):
        pretrained.weight_files(folder, "dit")


def test_files_that_have_changed_are_named(folders, tmp_path, aged):
    folder = shutil.copytree(folders["dit"], tmp_path / "copy")
    path, roots = pipelines.denoiser(folder, "dit", tmp_path / "artifact")
    load_denoiser(path, FLOAT32, Context(weight_folders=roots))
    with pytest.raises(StillhouseError, match="unknown folder of the weights"):
        load_denoiser(path, FLOAT32, Context())
    target = folder / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    aged(target)
    with pytest.raises(StillhouseError, match=r"vae/.*safetensors: has changed") as error:
        load_denoiser(path, FLOAT32, Context(weight_folders=roots))
    assert "\n" not in str(error.value)
    target.unlink()
    with pytest.raises(StillhouseError, match=r"vae/.*safetensors: missing"):
        load_denoiser(path, FLOAT32, Context(weight_folders=roots))


def test_weights_beside_denoiser_json_belong_to_the_artifact(folders, tmp_path, aged):
    files = {name: folders["dit"] / name for name in pretrained.weight_files(folders["dit"], "dit")}
    content = {
        name: store.load_tensors(path)
        if path.suffix == ".safetensors"
        else json.loads(path.read_text())
        for name, path in files.items()
    }
    about = {
        "kind": "dit",
        "resolution": 8,
        "class_labels": {"1": 1},
        "weights": None,
        "metrics": {},
    }
    directory = tmp_path / "own"
    spec = {"stage": "denoiser", "address": str(directory)}
    store.write(directory, spec, {**content, "denoiser.json": about})
    own = load_denoiser(directory / "denoiser.json", FLOAT32, Context())
    other, latents = load(folders["dit"], "dit", tmp_path), normal(1, 4, 4, 4)
    actual = [net.predict(latents, 5, net.condition("1")) for net in (own, other)]
    assert torch.equal(*actual)
    target = directory / "vae" / "config.json"
    target.write_text(target.read_text().replace("0.7", "0.8"))
    aged(target)
    with pytest.raises(store.Damaged, match=r"vae/config.json"):
        load_denoiser(directory / "denoiser.json", FLOAT32, Context())


def test_the_cache_of_the_hub_is_used_offline(folders, tmp_path, monkeypatch):
    commit = "0123456789abcdef" * 2 + "01234567"
    at = tmp_path / "models--someone--dit"
    shutil.copytree(folders["dit"], at / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights = {"hub": "someone/dit", "revision": commit}
    path, _ = pipelines.denoiser(folders["dit"], "dit", tmp_path / "artifact", weights=weights)
    net = load_denoiser(path, FLOAT32, Context())
    assert net.predict(normal(1, 4, 4, 4), 3, net.condition("1")).shape == (1, 4, 4, 4)
    with pytest.raises(
        StillhouseError, match=r"someone/other at 0123.*could not be downloaded"
    ) as error:
        pretrained.fetch("someone/other", commit, local_only=True)
    assert "\n" not in str(error.value)


def test_only_settings_and_safetensors_are_downloaded(monkeypatch, folders):
    asked = {}
    download = lambda hub, **options: asked.update(options, hub=hub) or "/somewhere"  # noqa: E731
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert str(pretrained.fetch("a/b", "c0ffee")) == "/somewhere"
    assert (asked["hub"], asked["revision"]) == ("a/b", "c0ffee")
    from huggingface_hub.utils import filter_repo_objects

    parts = ("vae", "unet", "safety_checker", "text_encoder")
    pickled = ["diffusion_pytorch_model.bin", "pytorch_model.bin"]
    variants = ["model.fp16.safetensors", "diffusion_pytorch_model.fp16.safetensors"]
    ignored = [f"{part}/{name}" for part in parts for name in pickled + variants]
    ignored += ["v1-5-pruned.ckpt", "v1-5-pruned.safetensors", "README.md", "run.py"]
    patterns = {"allow_patterns": asked["allow_patterns"]}
    patterns["ignore_patterns"] = asked["ignore_patterns"]
    assert not list(filter_repo_objects(ignored, **patterns))
    for name in ("dit", "stable_diffusion"):
        wanted = list(pretrained.weight_files(folders[name], name))
        assert list(filter_repo_objects(wanted, **patterns)) == wanted


def overflowing(folder, tmp_path, part, tensor, factor, precision="float16"):
    """Load a copy of a pipeline with one tensor multiplied; return the denoiser."""
    from safetensors.torch import load_file, save_file

    at = tmp_path / f"{part}-{factor:g}"
    shutil.copytree(folder, at)
    weights = at / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors[tensor] = tensors[tensor] * factor
    save_file(tensors, weights)
    return load(at, "dit", tmp_path / at.name / "made", {"precision": precision})


def test_an_encoder_that_overflows_names_precision_and_remedy(folders, tmp_path):
    factor = "vae", "encoder.conv_in.weight", 3e6
    images = normal(2, 3, 8, 8).clamp(-1, 1)
    denoiser = overflowing(folders["dit"], tmp_path, *factor)
    with pytest.raises(StillhouseError, match=r"precision: .* not finite in float16 .*; set"):
        denoiser.encode(images)
    shutil.rmtree(tmp_path / "vae-3e+06")
    mean, std = overflowing(folders["dit"], tmp_path, *factor, "bfloat16").encode(images)
    assert mean.isfinite().all() and std.isfinite().all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_decoder_that_overflows_is_an_error_in_one_line(folders, tmp_path, precision):
    factor = "vae", "post_quant_conv.weight", 1e38
    denoiser = overflowing(folders["dit"], tmp_path, *factor, precision)
    with pytest.raises(StillhouseError, match=f"images .* not finite in {precision}") as raised:
        denoiser.decode(1e3 * normal(2, 4, 4, 4))
    assert "\n" not in str(raised.value)
    assert ("bfloat16 or float32" in str(raised.value)) == (precision == "float16")


def test_inverted_and_sampled_latents_that_overflow_are_an_error(folders, tmp_path):
    from stillhouse.methods.d3hr import inversion

    denoiser = overflowing(folders["dit"], tmp_path, "transformer", "proj_out_2.weight", 1e9)
    settings = {"guidance": 1, "steps": 4, "snapshots": [2], "start": "clean"}
    with pytest.raises(StillhouseError, match="inverted latents are not finite in float16"):
        inversion._inverted(normal(2, 4, 4, 4), denoiser, "1", settings)
