"""Pipelines of other kinds are an error when they are opened."""

import contextlib
import json
import shutil

import pipelines
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from stillhouse.artifacts.context import Context
from stillhouse.diffusion import pipeline_check, pretrained, train_denoiser
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.errors import StillhouseError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return tiny pipelines by kind; must not be modified."""
    at = tmp_path_factory.mktemp("pipelines")
    return {
        "dit": pipelines.tiny_dit(at / "dit", learned=True),
        "stable_diffusion": pipelines.tiny_stable_diffusion(at / "sd"),
    }


SETTINGS = {
    "dit": {"kind": "dit", "resolution": 8, "class_labels": {"0": 2}},
    "stable_diffusion": {"kind": "stable_diffusion", "resolution": 8, "names": {}},
}


def check(folder, kind, **changes):
    pretrained.weight_files(folder, kind)
    pipeline_check.check(folder, {**SETTINGS[kind], **changes})


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("resolution", [8, 16, 32])
def test_pipelines_are_accepted_at_other_resolutions(folders, kind, resolution):
    check(folders[kind], kind, resolution=resolution)
    with pytest.raises(
        StillhouseError, match=r"denoisers.resolution: invalid 9; must be a multiple"
    ):
        check(folders[kind], kind, resolution=9)


def unet(**changes):
    """Return a U-Net as that of the tiny pipeline, with other settings."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    options = {
        "sample_size": 4,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**{**options, **changes})


SDXL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
}
OTHERS = {
    "SDXL": (SDXL, "addition_embed_type: 'text_time' is not supported.*SDXL"),
    "inpainting": ({"in_channels": 9}, "in_channels: 9 must be the 4 channels of latents of vae"),
    "edits": ({"in_channels": 8}, "in_channels: 8 must be the 4 channels"),
    "other width": ({"cross_attention_dim": 24}, "cross_attention_dim: 24 must be 16, the width"),
    "widths": ({"cross_attention_dim": (16, 24)}, r"cross_attention_dim: \[16, 24\] must be 16"),
    "upscaler": ({"num_class_embeds": 9}, "num_class_embeds: 9 is not supported.*upscalers"),
    "noise level": ({"class_embed_type": "timestep"}, "class_embed_type: 'timestep' is not"),
    "consistency": ({"time_cond_proj_dim": 8}, "time_cond_proj_dim: 8 is not supported"),
    "image": (
        {"encoder_hid_dim": 8, "encoder_hid_dim_type": "image_proj"},
        "encoder_hid_dim_type: 'image_proj' is not supported",
    ),
    "few outputs": ({"out_channels": 3}, r"unet: cannot .*output shape \(1, 3, 4, 4\); must be"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_unets_with_other_inputs_are_named(folders, tmp_path, name):
    changes, message = OTHERS[name]
    folder = shutil.copytree(folders["stable_diffusion"], tmp_path / "copy")
    shutil.rmtree(folder / "unet")
    unet(**changes).save_pretrained(folder / "unet")
    with pytest.raises(StillhouseError, match=message) as caught:
        check(folder, "stable_diffusion")
    assert str(caught.value).startswith(str(folder)) and str(caught.value).isprintable()


def test_a_unet_of_another_channel_count_is_accepted(folders, tmp_path):
    folder = shutil.copytree(folders["stable_diffusion"], tmp_path / "copy")
    for part, module in {"unet": unet(block_out_channels=(16, 32)), "vae": None}.items():
        if module is not None:
            shutil.rmtree(folder / part)
            module.save_pretrained(folder / part)
    check(folder, "stable_diffusion")


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_autoencoder_of_another_pipeline_is_an_error(folders, tmp_path, kind):
    folder = shutil.copytree(folders[kind], tmp_path / "copy")
    shutil.rmtree(folder / "vae")
    pipelines.tiny_autoencoder(channels=8).save_pretrained(folder / "vae")
    with pytest.raises(StillhouseError, match="in_channels: 4 must be the 8 channels of latents"):
        check(folder, kind)


def test_weights_of_other_shapes_than_the_settings_are_an_error(folders, tmp_path):
    folder = shutil.copytree(folders["stable_diffusion"], tmp_path / "copy")
    other = tmp_path / "other"
    unet(block_out_channels=(16, 32)).save_pretrained(other)
    shutil.copy(other / "diffusion_pytorch_model.safetensors", folder / "unet")
    with pytest.raises(
        StillhouseError, match=r"unet: not loadable|unet: missing weights"
    ) as caught:
        check(folder, "stable_diffusion")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_weights_that_are_not_finite_are_an_error_when_a_pipeline_is_opened(
    folders, tmp_path, part
):
    folder = shutil.copytree(folders["stable_diffusion"], tmp_path / "copy")
    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith("weight"))
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(
        StillhouseError, match=r"1 of \d+ numbers are not finite; use other weig"
    ) as e:
        check(folder, "stable_diffusion")
    assert str(e.value).startswith(f"{folder / part}: tensor '")


def test_a_tokenizer_with_more_tokens_than_the_text_encoder_is_an_error(folders, tmp_path):
    from transformers import CLIPTokenizer

    folder = shutil.copytree(folders["stable_diffusion"], tmp_path / "copy")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens(["<cat-toy>"])
    tokenizer.save_pretrained(folder / "tokenizer")
    with pytest.raises(StillhouseError, match=r"tokenizer: token '<cat-toy>' has number 527; must"):
        check(folder, "stable_diffusion")


def test_nothing_is_computed_on_an_image(folders, monkeypatch):
    devices, convolution = set(), torch.nn.Conv2d.forward

    def recorded(self, value):
        devices.add(value.device.type)
        return convolution(self, value)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", recorded)
    check(folders["stable_diffusion"], "stable_diffusion", resolution=512)
    assert devices == {"meta"}


def halved(folder, kind, at, parts=None, **options):
    """Save the components of a pipeline as half-precision variants; return the folder."""
    from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel
    from transformers import CLIPTextModel

    classes = {
        "vae": AutoencoderKL,
        "transformer": DiTTransformer2DModel,
        "unet": UNet2DConditionModel,
        "text_encoder": CLIPTextModel,
    }
    copy = shutil.copytree(folder, at)
    for part in parts or pretrained.MODELS[kind]:
        module = classes[part].from_pretrained(folder / part).half()
        for path in (copy / part).glob("*.safetensors"):
            path.unlink()
        module.save_pretrained(copy / part, variant="fp16", **options)
    return copy


def predicted(folder, kind, at):
    path, roots = pipelines.denoiser(folder, kind, at)
    options = {"precision": "float32", "prompts": ["an image of {}", ""]}
    net = load_denoiser(path, options, Context(weight_folders=roots))
    latents = torch.linspace(-1, 1, 64).view(1, 4, 4, 4)
    return net.predict(latents, 300, net.condition("1")), net.decode(latents)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("size", ["5GB", "15KB"], ids=["file", "parts"])
def test_weights_in_half_precision_alone_are_read(folders, tmp_path, kind, size):
    folder = halved(folders[kind], kind, tmp_path / "half", max_shard_size=size)
    files = pretrained.weight_files(folder, kind)
    weights = [name for name in files if name.endswith(".safetensors")]
    assert weights and all(".fp16" in name for name in weights)
    check(folder, kind)
    for actual, wanted in zip(
        predicted(folder, kind, tmp_path / "a"),
        predicted(folders[kind], kind, tmp_path / "b"),
        strict=True,
    ):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, wanted, atol=0.01, rtol=0.01)
        assert not torch.equal(actual, wanted)


def test_plain_weights_are_preferred_to_variants(folders, tmp_path):
    before = pretrained.weight_files(folders["dit"], "dit")
    folder = halved(folders["dit"], "dit", tmp_path / "half")
    for part in ("vae", "transformer"):
        name = "diffusion_pytorch_model.safetensors"
        shutil.copy(folders["dit"] / part / name, folder / part / name)
        shutil.copy(folders["dit"] / part / "config.json", folder / part / "config.json")
    assert pretrained.weight_files(folder, "dit") == before


def test_one_component_may_have_variants_alone(folders, tmp_path):
    folder = halved(folders["dit"], "dit", tmp_path / "half", parts=["transformer"])
    check(folder, "dit")
    assert not pretrained.has_weights(folder, "dit")
    assert pretrained.has_weights(folders["dit"], "dit")


def test_two_variants_without_plain_weights_are_an_error(folders, tmp_path):
    folder = halved(folders["dit"], "dit", tmp_path / "half")
    path = folder / "vae/diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(path, path.with_name("diffusion_pytorch_model.bf16.safetensors"))
    with pytest.raises(StillhouseError, match=r"vae: variants bf16 and fp16 .* remove all but one"):
        check(folder, "dit")


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("model.safetensors", None),
        ("model-00001-of-00002.safetensors", None),
        ("model.fp16.safetensors", "fp16"),
        ("model.non_ema.safetensors", "non_ema"),
        ("diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "fp16"),
        ("diffusion_pytorch_model-00001-of-00002.fp16.safetensors", "fp16"),
    ],
)
def test_variants_are_recognised_by_their_names(tmp_path, name, variant):
    (tmp_path / name).touch()
    assert pretrained.variant(tmp_path) == variant


def test_variants_of_a_hub_are_downloaded_where_there_are_no_others(folders, tmp_path, monkeypatch):
    folder, asked = halved(folders["dit"], "dit", tmp_path / "half"), []

    def fetch(hub, revision, variants=False):
        asked.append(variants)
        return folder

    monkeypatch.setattr(train_denoiser, "fetch", fetch)
    weights = {"hub": "someone/dit", "revision": "c" * 40}
    described = train_denoiser.describe_pretrained(
        {**SETTINGS["dit"], "weights": weights}, Context()
    )
    assert asked == [False, True]
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in described["files"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_train_timesteps": 10**12},
            "num_train_timesteps: invalid 1000000000000; must be 1 to",
        ),
        ({"num_train_timesteps": "1000"}, "num_train_timesteps: invalid '1000'"),
        ({"num_train_timesteps": 0}, "num_train_timesteps: invalid 0"),
        ({"beta_start": None}, "settings that diffusers cannot use"),
        ({"beta_end": 2.0}, "betas from 0.0001 to 2.0 leave no signal"),
        ({"trained_betas": ["a"]}, "settings that diffusers cannot use"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "_class_name: 'FlowMatch.* is not"),
        ({"_class_name": "LCMScheduler"}, "_class_name: 'LCMScheduler' is not supported"),
        ({"_class_name": 5}, "_class_name: 5 is not supported"),
    ],
)
def test_schedules_that_cannot_be_computed_are_named(folders, tmp_path, settings, message):
    folder = shutil.copytree(folders["dit"], tmp_path / "copy")
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps(pipelines.SCHEDULER | settings))
    with pytest.raises(StillhouseError, match=message) as caught:
        check(folder, "dit")
    assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scaling_factor": None}, "scaling_factor: None and shift_factor: 0 must be numbers"),
        ({"scaling_factor": 0}, "scaling_factor: 0 and .*, the first more than 0"),
        ({"shift_factor": "0.1"}, "shift_factor: '0.1' must be numbers"),
        ({"latents_mean": [0.1] * 4}, "latents_mean: must be null"),
    ],
)
def test_latents_are_scaled_by_one_number(folders, tmp_path, changes, message):
    folder = shutil.copytree(folders["dit"], tmp_path / "copy")
    path = folder / "vae/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(StillhouseError, match=message) as caught:
        check(folder, "dit")
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "name",
    [
        *("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"),
        *("EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "LMSDiscreteScheduler"),
        *("UniPCMultistepScheduler", "DDIMInverseScheduler"),
    ],
)
def test_samplers_with_betas_are_accepted(name):
    import diffusers

    saved = dict(getattr(diffusers, name)(beta_schedule="scaled_linear").config)
    schedule = NoiseSchedule.from_config({**saved, "_class_name": name})
    assert len(schedule.alphas) == 1000 and schedule.prediction == "epsilon"


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 40)
    | st.text(max_size=3)
    | st.just([])
    | st.just({})
)
JSON_FILES = (
    *("model_index.json", "scheduler/scheduler_config.json", "vae/config.json", "unet/config.json"),
    *("text_encoder/config.json", "tokenizer/tokenizer_config.json"),
)


@settings(max_examples=25)
@given(st.sampled_from(JSON_FILES), st.data())
def test_any_settings_are_accepted_or_an_error_of_one_line(folders, tmp_path_factory, name, data):
    at = tmp_path_factory.mktemp("changed")
    folder = shutil.copytree(folders["stable_diffusion"], at / "copy")
    content = json.loads((folder / name).read_text())
    key = data.draw(st.sampled_from(sorted(content)))
    changed = data.draw(VALUES.map(lambda value: {**content, key: value}) | VALUES)
    (folder / name).write_text(json.dumps(changed))
    try:
        check(folder, "stable_diffusion")
    except StillhouseError as error:
        assert str(error).isprintable()
    with contextlib.suppress(OSError):
        shutil.rmtree(at)


def test_shards_that_are_no_names_are_an_error(folders, tmp_path):
    for i, shards in enumerate([None, 3, {"a": 5}, {"a": "../x.safetensors"}, {"a": None}]):
        folder = shutil.copytree(folders["dit"], tmp_path / str(i))
        index = folder / "vae/diffusion_pytorch_model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": shards}))
        with pytest.raises(
            StillhouseError, match=r"index.json: invalid file .*must be in its folder"
        ):
            check(folder, "dit")


def test_files_that_are_folders_are_missing(folders, tmp_path):
    folder = shutil.copytree(folders["dit"], tmp_path / "copy")
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    path.unlink()
    path.mkdir()
    with pytest.raises(StillhouseError, match=r"vae/\*.safetensors: missing"):
        check(folder, "dit")
    assert load_file(folders["dit"] / "vae/diffusion_pytorch_model.safetensors")
