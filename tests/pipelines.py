"""Diffusers folders of a few kilobytes with random weights, for tests with denoisers."""

import json
from pathlib import Path

from stillhouse.artifacts import store
from stillhouse.diffusion import pretrained
from stillhouse.networks.registry import global_generator

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "set_alpha_to_one": True,
    "clip_sample": False,
    "prediction_type": "epsilon",
}
WORDS = ("an", "image", "of", "zero", "one", "two")


def tiny_autoencoder(channels=4, factor=2):
    """Return an AutoencoderKL whose latents have a side 1/factor of the image's."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    depth = factor.bit_length()
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=(8,) * depth,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=8,
        scaling_factor=0.7,
    )


def tiny_dit(folder, learned=False, classes=3, size=4, layers=2, heads=2, width=8, scheduler=()):
    """Save a DiT pipeline of 8 px images with latents of 4 × size × size; return the folder.

    Parameters
    ----------
    folder : Path
    learned : bool
        Whether the network also predicts a variance, as DiT-XL/2 does.
    classes : int
        The null class is number `classes`.
    size : int
        Side of the latents.
    layers, heads : int
    width : int
        Of a head.
    scheduler : dict, optional
        Changes of `SCHEDULER`.
    """
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    with global_generator(0, "tiny dit"):
        network = DiTTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=width,
            in_channels=4,
            out_channels=8 if learned else 4,
            num_layers=layers,
            attention_bias=True,
            norm_num_groups=4,
            sample_size=size,
            patch_size=2,
            num_embeds_ada_norm=classes,
        )
        parts = {"vae": tiny_autoencoder(), "transformer": network}
    return _save(folder, "DiTPipeline", parts, scheduler)


def tiny_stable_diffusion(folder, scheduler=(), words=WORDS):
    """Save a Stable Diffusion pipeline of 8 px images with latents of 4 × 4 × 4 numbers.

    Its tokenizer has a token for every byte and for each of `words`.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    vocabulary = write_tokenizer(Path(folder) / "tokenizer", words)
    with global_generator(0, "tiny stable diffusion"):
        network = UNet2DConditionModel(
            sample_size=4,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=4,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                bos_token_id=vocabulary["<|startoftext|>"],
                eos_token_id=vocabulary["<|endoftext|>"],
                pad_token_id=vocabulary["<|endoftext|>"],
            )
        )
        parts = {"vae": tiny_autoencoder(), "unet": network, "text_encoder": text}
    return _save(folder, "StableDiffusionPipeline", parts, scheduler)


def write_tokenizer(folder, words):
    """Write the files of a CLIPTokenizer and return its vocabulary, {token: number}."""
    # Bytes as byte-level BPE spells them: printable ones as themselves, the others above 255.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    merges = []
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges.append(f"{pieces[0]} {pieces[1]}")
            pieces[:2] = ["".join(pieces[:2])]
    merges = list(dict.fromkeys(merges))
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["".join(merge.split()) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return vocabulary


def _save(folder, name, parts, scheduler):
    folder = Path(folder)
    for part, module in parts.items():
        module.save_pretrained(folder / part, safe_serialization=True)
    (folder / "scheduler").mkdir()
    settings = SCHEDULER | dict(scheduler)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    index = {"_class_name": name, **{part: ["diffusers", ""] for part in parts}}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def denoiser(folder, kind, directory, names=("0", "1", "2"), **changes):
    """Write the artifact of a denoiser with pretrained weights in `folder`.

    Parameters
    ----------
    folder : Path
        From `tiny_dit` or `tiny_stable_diffusion`.
    kind : str
        ``dit`` or ``stable_diffusion``.
    directory : Path
        Of the artifact.
    names : sequence of str
        Class ids; the classes' names are ``zero``, ``one``, ...
    changes
        Of ``denoiser.json``.

    Returns
    -------
    Path of ``denoiser.json``, and the ``weight_folders`` of a `Context`
    """
    files = pretrained.weight_files(folder, kind)
    key = pretrained.folder_digest(files)
    words = ("zero", "one", "two", *(f"class {i}" for i in range(3, len(names))))
    content = {
        "kind": kind,
        "resolution": 8,
        "weights": {"sha256": key},
        "files": files,
        "metrics": {},
    }
    if kind == "dit":
        content["class_labels"] = {name: i for i, name in enumerate(names)}
    else:
        content["names"] = dict(zip(names, words, strict=False))
    directory = Path(directory).absolute()
    spec = {"stage": "denoiser", "address": str(directory)}
    store.write(directory, spec, {"denoiser.json": content | changes})
    return directory / "denoiser.json", {key: str(folder)}
