"""Decoding: latents denoised by sampling, then decoded into images.

``from_noise``, of D3HR (Zhao et al., 2025), section 3.3: from the noise level of the latents.
``image_to_image``, of D4M (Su et al., "D⁴M: Dataset Distillation via Disentangled Diffusion Model",
CVPR 2024), section 3.3: clean prototypes are noised first, as in image-to-image translation.
"""

import numpy as np
import pyarrow as pa
import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator
from stillhouse.data.codecs import IMAGE, encode
from stillhouse.data.transforms import unit_to_bytes
from stillhouse.diffusion import pipeline_scheduler
from stillhouse.diffusion.ddim import pass_size, sample
from stillhouse.diffusion.denoisers import load_denoiser

SCHEMA = pa.schema([("image", IMAGE), ("index", pa.int32())])


def decode(inputs, spec, context):
    """Stage: images of each class from latents of ``samples`` or ``prototypes``."""
    return Decoding(inputs, spec, context)


class Decoding:
    """Sample the latents of one class and decode them."""

    def __init__(self, inputs, spec, context):
        self.settings, self.seed = spec["settings"], spec["keys"]["seed"]
        self.denoiser = load_denoiser(inputs["denoiser"], self.settings, context)
        self.files = inputs["start"]

    def __call__(self, class_id, context):
        """Return the files of one class."""
        start = store.read_tensors(self.files[class_id])["latents"].float()
        step, images = pass_size(self.settings["guidance"], context.batch_size), []
        firsts = range(0, len(start), step)
        for first in track(firsts, len(firsts), f"{class_id}: batches sampled"):
            latents = self._denoise(start[first : first + step], first, class_id)
            self.denoiser.check_finite(latents, "sampled latents")
            pixels = unit_to_bytes(self.denoiser.decode(latents))
            images += [encode(image, "png") for image in pixels]
        rows = [{"bytes": data, "path": None} for data in images]
        table = pa.table({"image": rows, "index": range(len(rows))}, schema=SCHEMA)
        return {"images.parquet": table}

    def _denoise(self, latents, first, class_id):
        if self.settings["sampling"] == "image_to_image":
            address = self.seed, class_id, first
            return image_to_image(latents, self.denoiser, address, self.settings)
        return sample_latents(latents, self.denoiser, class_id, self.settings)


def sample_latents(latents, denoiser, class_id, settings):
    """Denoise latents at the level of ``inversion_steps`` steps (D3HR).

    Parameters
    ----------
    latents : (n, channels, h, w) float32
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    class_id : str
    settings : dict
        ``steps``, ``inversion_steps``, ``guidance``; ``start``, see `sample`.

    Returns
    -------
    (n, channels, h, w) float32 on the denoiser's device
    """
    return sample(
        denoiser,
        latents.to(denoiser.device),
        denoiser.condition(class_id),
        guidance=settings["guidance"],
        steps=settings["steps"],
        count=settings["inversion_steps"],
        start=settings["start"],
    )


def image_to_image(latents, denoiser, address, settings):
    """Add noise to clean latents and denoise them again (D4M).

    Parameters
    ----------
    latents : (n, channels, h, w) float32
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    address : (int, str, int)
        Of the noise: seed, class id, and the index of the first latent within its class. The noise
        depends on the index.
    settings : dict
        ``steps``, ``guidance``; ``strength``, the share of the steps that is run; ``scheduler``,
        optional: ``own``, that of the denoiser's pipeline, else DDIM.

    Returns
    -------
    (n, channels, h, w) float32 on the denoiser's device

    Notes
    -----
    diffusers' convention for image to image: the last int(steps · strength) steps are run, and the
    level of the noise is that of the first of them. For 0 steps, latents are returned unchanged.
    """
    seed, class_id, first = address
    count = min(int(settings["steps"] * settings["strength"]), settings["steps"])
    latents = latents.to(denoiser.device)
    if count == 0:
        return latents
    draws = [
        generator(seed, "noise", class_id, first + i).standard_normal(latent.shape, np.float32)
        for i, latent in enumerate(latents)
    ]
    noise = torch.from_numpy(np.stack(draws)).to(denoiser.device)
    if settings.get("scheduler") == "own":
        condition = denoiser.condition(class_id)
        grid = settings["guidance"], settings["steps"], settings["strength"]
        return pipeline_scheduler.image_to_image(denoiser, latents, noise, condition, *grid)
    level = denoiser.schedule.grid(settings["steps"])[count - 1]
    return sample(
        denoiser,
        denoiser.schedule.add_noise(latents, noise, level),
        denoiser.condition(class_id),
        guidance=settings["guidance"],
        steps=settings["steps"],
        count=count,
    )
