"""Stage `denoiser`: a diffusers pipeline, trained by the workflow or pretrained."""

import json
import math
from pathlib import Path

import torch

from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.progress import track
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import to_unit
from stillhouse.diffusion import pipeline_check
from stillhouse.diffusion.pretrained import fetch, folder_digest, has_weights, weight_files
from stillhouse.diffusion.settings import is_trained
from stillhouse.diffusion.training import (
    SCHEDULER,
    build_autoencoder,
    build_network,
    train_autoencoder,
    train_network,
)
from stillhouse.diffusion.training_loop import TrainingLoop
from stillhouse.errors import StillhouseError
from stillhouse.training import loop

WEIGHTS = "diffusion_pytorch_model.safetensors"
# Images per batch of encoding; the last digits of latents and network depend on it.
ENCODED = 64


def denoiser(inputs, spec, context):
    """Stage: train a denoiser on all classes of a source, or check pretrained weights."""
    settings = spec["settings"]
    if is_trained(settings):
        return DenoiserTraining(inputs, settings)

    def make(member, context):
        return {"denoiser.json": describe_pretrained(settings, context)}

    return make


def describe_pretrained(settings, context):
    """Return the description of a pretrained pipeline: its files and their checksums.

    Parameters
    ----------
    settings : dict
        ``weights``, ``kind``, ``resolution``; ``class_labels`` or ``names``.
    context : stillhouse.artifacts.context.Context

    Raises
    ------
    StillhouseError
        If files are missing, not safetensors, or differ in their digest from the config, or if the
        pipeline does not fit the settings.
    """
    weights = settings["weights"]
    if "hub" in weights:
        folder = fetch(weights["hub"], weights["revision"])
        if not has_weights(folder, settings["kind"]):
            folder = fetch(weights["hub"], weights["revision"], variants=True)
    else:
        folder = context.weight_folders[weights["sha256"]]
    files = weight_files(folder, settings["kind"])
    digest = folder_digest(files)
    if weights.get("sha256", digest) != digest:
        raise StillhouseError(
            f"{folder}: the digest of its files must be {weights['sha256']}, as in the config, not "
            f"{digest}; restore the files, or, if they are correct, set pretrained.sha256"
        )
    pipeline_check.check(Path(folder), settings)
    names = ("kind", "resolution", "class_labels", "names")
    described = {name: settings[name] for name in names if name in settings}
    return {**described, "weights": weights, "files": files, "metrics": {}}


class DenoiserTraining:
    """Train an autoencoder, then a diffusion transformer on its latents.

    Parameters
    ----------
    inputs : dict
        ``images`` by class id.
    settings : dict
        Of the stage.
    """

    def __init__(self, inputs, settings):
        self.images, self.settings = inputs["images"], settings

    def __call__(self, member, context):
        """Return the files of a diffusers folder."""
        classes, recipe, seed = (self.settings[k] for k in ("classes", "train", "seed"))
        device, resolution = context.torch_device(), self.settings["resolution"]
        images, labels = self._split("train", context)
        images, labels = images.to(device), labels.to(device)
        checkpoint = Checkpoint(context)
        autoencoder = build_autoencoder(recipe["autoencoder"], resolution, seed)
        layout = loop.memory_format(recipe["autoencoder"])
        loop.to_memory_format(autoencoder.to(device), recipe["autoencoder"])
        curve = _train_autoencoder(autoencoder, images, recipe["autoencoder"], seed, checkpoint)
        views = (False, True) if recipe["network"]["flip"] else (False,)
        posteriors = [encode(autoencoder, images, layout, mirrored) for mirrored in views]
        # Latents are scaled to the unit variance of the noise (latent diffusion, appendix G).
        scale = _scale(posteriors)
        autoencoder.register_to_config(scaling_factor=scale)
        mean, std = (torch.stack([p[i] for p in posteriors]) * scale for i in (0, 1))
        network = build_network(
            recipe["network"], mean.shape[2], mean.shape[-1], len(classes), seed
        ).to(device)
        finished = {"autoencoder": curve}
        minimise = TrainingLoop("denoiser", checkpoint, autoencoder.state_dict(), finished)
        losses = train_network(network, mean, std, labels, recipe["network"], seed, minimise)
        metrics = {
            "autoencoder_loss": curve,
            "loss": losses,
            "latent_std": round(1 / scale, 6),
            "psnr_test": self._psnr(autoencoder, context),
            "n_parameters": {
                "autoencoder": sum(p.numel() for p in autoencoder.parameters()),
                "network": sum(p.numel() for p in network.parameters()),
            },
        }
        return {**_folder(autoencoder, network), "denoiser.json": self._describe(metrics)}

    def _describe(self, metrics):
        return {
            "kind": "dit",
            "resolution": self.settings["resolution"],
            "class_labels": {c: i for i, c in enumerate(self.settings["classes"])},
            "weights": None,
            "metrics": metrics,
        }

    def _split(self, split, context, whole=False):
        """Return images and labels of a split; see `load_split`."""
        classes, resolution = self.settings["classes"], self.settings["resolution"]
        return load_split(
            self.images, classes, resolution, split, context.source_roots, whole=whole
        )

    @torch.no_grad()
    def _psnr(self, autoencoder, context):
        """Return the mean PSNR [dB] of decoded posterior means of the test split."""
        images, _ = self._split("test", context, whole=True)
        psnr = []
        for batch in images.to(context.torch_device()).split(context.batch_size):
            pixels = to_unit(batch)
            decoded = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample
            error = (decoded.clamp(-1, 1) - pixels).square().mean((1, 2, 3)).clamp(min=1e-10)
            psnr.append(10 * torch.log10(4 / error))
        return round(torch.cat(psnr).mean().item(), 4)


def _train_autoencoder(net, images, settings, seed, checkpoint):
    """Train an autoencoder, or restore it from a checkpoint of the network's training."""
    stored = checkpoint.load()
    if stored is not None and stored[1]["name"] == "denoiser":
        net.load_state_dict(select_prefix(stored[0], "finished."))
        loop.freeze(net)
        return stored[1]["values"]["autoencoder"]
    minimise = TrainingLoop("autoencoder", checkpoint)
    return train_autoencoder(net, images, settings, seed, minimise)


@torch.no_grad()
def encode(autoencoder, images, layout=torch.contiguous_format, mirrored=False):
    """Return mean and deviation of the posteriors of uint8 images, unscaled, float32."""
    means, stds = [], []
    starts = range(0, len(images), ENCODED)
    for first in track(starts, len(starts), "batches encoded"):
        batch = images[first : first + ENCODED]
        pixels = to_unit(batch.flip(3) if mirrored else batch).contiguous(memory_format=layout)
        posterior = autoencoder.encode(pixels).latent_dist
        means.append(posterior.mean)
        stds.append(posterior.std)
    return torch.cat(means), torch.cat(stds)


def _scale(posteriors):
    """Return the factor that gives posterior samples unit variance."""
    mean = torch.cat([p[0].double().flatten() for p in posteriors])
    std = torch.cat([p[1].double().flatten() for p in posteriors])
    return 1 / math.sqrt(mean.var().item() + std.square().mean().item())


def _folder(autoencoder, network):
    """Return a folder in the diffusers layout as {name: content}."""
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
