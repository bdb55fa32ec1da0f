"""Whether a pretrained pipeline fits its settings: scheduler, conditions, shapes, all weights.

Its networks are loaded and applied to one image on torch's meta device, which computes shapes only,
so that a pipeline of another kind is an error when it is opened, not hours later.
"""

import math

import torch

from stillhouse.diffusion.denoisers import KINDS
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.diffusion.pretrained import read_config
from stillhouse.errors import StillhouseError, one_line

NETWORK = {"dit": "transformer", "stable_diffusion": "unet"}
# Conditions beside time and class, or time and text, that a network may need.
CONDITIONS = {
    "addition_embed_type": "image sizes and a second text, as SDXL",
    "class_embed_type": "a class or a noise level",
    "num_class_embeds": "a class or a noise level, as upscalers",
    "encoder_hid_dim_type": "an image or a second text",
    "time_cond_proj_dim": "the strength of guidance, as latent consistency models",
    "caption_channels": "a text",
}
# Conditions are computed on the CPU.
CPU, META = torch.device("cpu"), torch.device("meta")


def check(folder, settings):
    """Raise a `StillhouseError` if a pretrained pipeline does not fit its settings.

    Parameters
    ----------
    folder : Path
        With complete components, see `stillhouse.diffusion.pretrained.weight_files`.
    settings : dict
        ``kind``, ``resolution``; ``class_labels`` or ``names``.
    """
    NoiseSchedule.read(folder / "scheduler" / "scheduler_config.json")
    path = folder / NETWORK[settings["kind"]] / "config.json"
    _check_conditions(path, read_config(path))
    _check_scale(folder / "vae" / "config.json", read_config(folder / "vae" / "config.json"))
    try:
        _check_networks(folder, path, settings)
    except (MemoryError, StillhouseError):
        raise
    except Exception as error:  # libraries raise errors of any type for settings of other types
        raise StillhouseError(
            f"{folder}: cannot be opened as a {settings['kind']} pipeline ({one_line(error)}); "
            "save it again with diffusers"
        ) from None


def _check_networks(folder, path, settings):
    """Load the networks, and compare channels, labels and shapes."""
    kind = settings["kind"]
    described = {"class_labels": {}, "names": {}, **settings}
    options = {"precision": "float32", "prompts": ["{}", ""]}
    denoiser = KINDS[kind](folder, described, options, CPU)
    _check_channels(path, denoiser)
    step = denoiser.factor
    if kind == "dit":
        step *= denoiser.network.config.patch_size
        _check_labels(folder, denoiser, settings["class_labels"])
    if settings["resolution"] % step:
        raise StillhouseError(
            f"denoisers.resolution: invalid {settings['resolution']}; must be a multiple of {step} "
            f"for {folder}"
        )
    _check_shapes(folder, NETWORK[kind], denoiser, settings["resolution"])


def _check_conditions(path, config):
    for key, what in CONDITIONS.items():
        if config.get(key) is not None:
            raise StillhouseError(
                f"{path}: {key}: {config[key]!r} is not supported, the network is also conditioned "
                f"on {what}; use a pipeline of DiT or of Stable Diffusion 1 or 2"
            )


def _check_scale(path, config):
    """Raise if latents are not scaled and shifted by two numbers."""
    scale, shift = config.get("scaling_factor", 1), config.get("shift_factor") or 0
    numbers = [one for one in (scale, shift) if type(one) in (int, float) and math.isfinite(one)]
    if len(numbers) < 2 or scale <= 0:
        raise StillhouseError(
            f"{path}: scaling_factor: {one_line(repr(scale))} and shift_factor: "
            f"{one_line(repr(shift))} must be numbers, the first more than 0"
        )
    for key in ("latents_mean", "latents_std"):
        if config.get(key) is not None:
            raise StillhouseError(
                f"{path}: {key}: must be null; latents with a scale per channel are not supported"
            )


def _check_channels(path, denoiser):
    """Raise if the network's input is not a latent, or its text not that of the text encoder."""
    config, channels = denoiser.network.config, denoiser.channels
    if config.in_channels != channels:
        raise StillhouseError(
            f"{path}: in_channels: {config.in_channels} must be the {channels} channels of latents "
            "of vae; networks with further inputs, as for inpainting, are not supported"
        )
    widths = getattr(config, "cross_attention_dim", None)
    if denoiser.condition_key == "names":
        width = denoiser.null.shape[-1]
        if {width} != set(widths if isinstance(widths, list | tuple) else [widths]):
            raise StillhouseError(
                f"{path}: cross_attention_dim: {widths} must be {width}, the width of "
                "text_encoder; use the text encoder of the same pipeline"
            )
        _check_tokens(denoiser)


def _check_tokens(denoiser):
    """Raise if the tokenizer has tokens for which the text encoder has no embedding."""
    tokenizer, encoder = denoiser._text
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    n_known = encoder.config.vocab_size
    if tokens[-1][1] >= n_known:
        raise StillhouseError(
            f"{denoiser.folder / 'tokenizer'}: token {one_line(tokens[-1][0])!r} has number "
            f"{tokens[-1][1]}; must be less than {n_known}, the tokens of text_encoder; use "
            "the tokenizer of the same pipeline"
        )


def _check_labels(folder, denoiser, class_labels):
    n_classes = denoiser.network.config.num_embeds_ada_norm or 0
    for class_id, number in class_labels.items():
        if number >= n_classes:
            raise StillhouseError(
                f"denoisers.class_labels: invalid number {number} of class {class_id!r}; must "
                f"be less than {n_classes}, the classes of {folder}"
            )


@torch.no_grad()
def _check_shapes(folder, network, denoiser, resolution):
    """Raise if an image cannot be encoded, its noise predicted, and its latents decoded."""
    null, channels = denoiser.null.to(META), denoiser.channels
    side = resolution // denoiser.factor
    vae = denoiser.vae.to(META)
    denoiser.network.to(META)
    images = torch.zeros(1, 3, resolution, resolution, device=META)
    latents = torch.zeros(1, channels, side, side, device=META)
    time = torch.zeros(1, dtype=torch.int64, device=META)
    networks = {
        "vae (encoder)": (lambda: vae.encode(images).latent_dist.mean, latents.shape),
        "vae (decoder)": (lambda: vae.decode(latents).sample, images.shape),
        network: (
            lambda: denoiser._forward(latents, time, null)[:, :channels],
            latents.shape,
        ),
    }
    for name, (run, wanted) in networks.items():
        try:
            shape = run().shape
        except Exception as error:  # libraries raise errors of any type
            problem = one_line(error)
        else:
            if shape == wanted:
                continue
            problem = f"output shape {tuple(shape)}; must be {tuple(wanted)}"
        raise StillhouseError(
            f"{folder}: {name}: cannot be applied to an image of {resolution} px ({problem}); "
            "check config.json and denoisers.resolution"
        )
