"""The stage `denoiser`: a diffusers pipeline that is trained here, or checked."""

import json
import math
from pathlib import Path

import torch

from stillhouse.artifacts.progress import track
from stillhouse.data.class_images import load_split
from stillhouse.data.transforms import to_unit
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.diffusion.pretrained import fetch, folder_digest, read_config, weight_files
from stillhouse.diffusion.training import (
    SCHEDULER,
    Loop,
    build_autoencoder,
    build_network,
    train_autoencoder,
    train_network,
)
from stillhouse.errors import StillhouseError
from stillhouse.training import loop as training
from stillhouse.training.loop import SideFile

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Images encoded at once: last digits depend on it, and a network is trained on them.
ENCODED = 64


def denoiser(inputs, spec, context):
    """Stage: train a denoiser on all classes of a source, or check the files of one."""

    def make(key, context):
        if "weights" in spec["settings"]:
            return {"denoiser.json": given(spec["settings"], context)}
        return trained(inputs, spec["settings"], context)

    return make


def given(settings, context):
    """Return what is to be known of a pretrained pipeline: its files and their checksums.

    Raises
    ------
    StillhouseError
        If files are missing, are no safetensors, or are not those that the config means.
    """
    weights = settings["weights"]
    if "hub" in weights:
        folder = fetch(weights["hub"], weights["revision"])
    else:
        folder = context.weight_folders[weights["sha256"]]
    files = weight_files(folder, settings["kind"])
    found = folder_digest(files)
    if weights.get("sha256", found) != found:
        raise StillhouseError(
            f"{folder}: its files have the digest {found}, the config says {weights['sha256']}; if "
            "these files are meant, give this one as pretrained.sha256"
        )
    _check_fit(Path(folder), settings)
    kept = {k: settings[k] for k in ("kind", "resolution", "labels", "names") if k in settings}
    return {**kept, "weights": weights, "files": files, "metrics": {}}


def _check_fit(folder, settings):
    """Refuse a given pipeline that does not fit what the config says of it."""
    NoiseSchedule.read(folder / "scheduler" / "scheduler_config.json")
    step = 2 ** (len(read_config(folder / "vae" / "config.json")["block_out_channels"]) - 1)
    if settings["kind"] == "dit":
        config = read_config(folder / "transformer" / "config.json")
        step *= config["patch_size"]
        most = config["num_embeds_ada_norm"]
        for class_id, number in settings["labels"].items():
            if number >= most:
                raise StillhouseError(
                    f"denoisers.labels: class {class_id!r} has number {number}; {folder} has "
                    f"{most} classes, from 0"
                )
    if settings["resolution"] % step:
        raise StillhouseError(
            f"denoisers.resolution: is {settings['resolution']}; should be a multiple of {step} "
            f"for {folder}"
        )


def trained(inputs, settings, context):
    """Train autoencoder and network; return the files of a diffusers folder."""
    classes, recipe, seed = settings["classes"], settings["train"], settings["seed"]
    device, resolution = context.torch_device(), settings["resolution"]
    images, labels = load_split(
        inputs["images"], classes, resolution, "train", context.source_roots
    )
    images, labels = images.to(device), labels.to(device)
    side = SideFile(context)
    autoencoder = build_autoencoder(recipe["autoencoder"], resolution, seed)
    layout = training.memory_format(recipe["autoencoder"])
    autoencoder.to(device, memory_format=layout)
    curve = _train_autoencoder(autoencoder, images, recipe["autoencoder"], seed, side)
    views = [images, images.flip(3)] if recipe["network"]["flip"] else [images]
    posteriors = [encode(autoencoder, view, layout) for view in views]
    # Latents of unit variance, as the noise has (latent diffusion, appendix G).
    scale = _scale(posteriors)
    autoencoder.register_to_config(scaling_factor=scale)
    mean, std = (torch.stack([p[i] for p in posteriors]) * scale for i in (0, 1))
    network = build_network(
        recipe["network"], mean.shape[2], mean.shape[-1], len(classes), seed
    ).to(device)
    kept = {"autoencoder": curve}
    loop = Loop("denoiser", side, autoencoder.state_dict(), kept)
    losses = train_network(network, mean, std, labels, recipe["network"], seed, loop)
    metrics = {
        "autoencoder_loss": curve,
        "loss": losses,
        "latent_std": round(1 / scale, 6),
        "psnr_test": _psnr(autoencoder, inputs, settings, context),
        "n_parameters": {
            "autoencoder": sum(p.numel() for p in autoencoder.parameters()),
            "network": sum(p.numel() for p in network.parameters()),
        },
    }
    about = {
        "kind": "dit",
        "resolution": resolution,
        "labels": {class_id: i for i, class_id in enumerate(classes)},
        "weights": None,
        "metrics": metrics,
    }
    return {**_folder(autoencoder, network), "denoiser.json": about}


def _train_autoencoder(net, images, settings, seed, side):
    """Train an autoencoder, or take the one that a side file of the network's training has."""
    stored = side.load()
    if stored is not None and stored[1]["name"] == "denoiser":
        net.load_state_dict(training.part(stored[0], "kept."))
        training.freeze(net)
        return stored[1]["values"]["autoencoder"]
    return train_autoencoder(net, images, settings, seed, Loop("autoencoder", side))


@torch.no_grad()
def encode(autoencoder, images, layout=torch.contiguous_format):
    """Return mean and deviation of the posteriors of uint8 images, not scaled, float32."""
    means, stds = [], []
    starts = range(0, len(images), ENCODED)
    for first in track(starts, len(starts), "batches encoded"):
        pixels = to_unit(images[first : first + ENCODED]).contiguous(memory_format=layout)
        posterior = autoencoder.encode(pixels).latent_dist
        means.append(posterior.mean)
        stds.append(posterior.std)
    return torch.cat(means), torch.cat(stds)


def _scale(posteriors):
    """Return what posterior samples are multiplied with for unit variance."""
    mean = torch.cat([p[0].double().flatten() for p in posteriors])
    noise = torch.cat([p[1].double().flatten() for p in posteriors])
    return 1 / math.sqrt(mean.var().item() + noise.square().mean().item())


@torch.no_grad()
def _psnr(autoencoder, inputs, settings, context):
    """Return the mean PSNR [dB] of decoded posterior means of the test split."""
    images, _ = load_split(
        *(
            inputs["images"],
            settings["classes"],
            settings["resolution"],
            "test",
            context.source_roots,
        ),
        whole=True,
    )
    found = []
    for some in images.to(context.torch_device()).split(context.batch_size):
        pixels = to_unit(some)
        decoded = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample
        error = (decoded.clamp(-1, 1) - pixels).square().mean((1, 2, 3)).clamp(min=1e-10)
        found.append(10 * torch.log10(4 / error))
    return round(torch.cat(found).mean().item(), 4)


def _folder(autoencoder, network):
    """Return a folder in diffusers' layout as {name: content}."""
    index = {
        "_class_name": "DiTPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    return {
        "model_index.json": index,
        "scheduler/scheduler_config.json": SCHEDULER,
        "transformer/config.json": json.loads(network.to_json_string()),
        f"transformer/{WEIGHTS}": network.state_dict(),
        "vae/config.json": json.loads(autoencoder.to_json_string()),
        f"vae/{WEIGHTS}": autoencoder.state_dict(),
    }
