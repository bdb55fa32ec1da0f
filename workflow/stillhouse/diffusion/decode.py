"""Decoding: latents sampled down to clean ones, then turned into images.

Of D3HR (Zhao et al., 2025), section 3.3: from the level that they were drawn at. Of D4M (Su et
al., "D⁴M: Dataset Distillation via Disentangled Diffusion Model", CVPR 2024), section 3.3: clean
prototypes get noise first, as in image-to-image translation.
"""

import numpy as np
import pyarrow as pa
import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.data.codecs import IMAGE, encode
from stillhouse.data.transforms import unit_to_bytes
from stillhouse.diffusion.ddim import sample
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.methods.d3hr.inversion import pass_size
from stillhouse.rng import generator

SCHEMA = pa.schema([("image", IMAGE), ("index", pa.int32())])


def decode(inputs, spec, context):
    """Stage: images of each class from latents of ``samples`` or ``prototypes``."""
    settings, seed = spec["settings"], spec["keys"]["seed"]
    path = inputs["denoiser"]
    denoiser = load_denoiser(path, settings, context)
    files = inputs["start"]

    def make(class_id, context):
        start = store.read_tensors(files[class_id])["latents"].float()
        step, images = pass_size(settings, context), []
        firsts = range(0, len(start), step)
        for first in track(firsts, len(firsts), f"{class_id}: batches sampled"):
            some = start[first : first + step]
            if "strength" in settings:
                clean = redraw(some, first, denoiser, class_id, seed, settings)
            else:
                clean = draw(some, denoiser, class_id, settings)
            images += [encode(image, "png") for image in unit_to_bytes(denoiser.decode(clean))]
        rows = [{"bytes": data, "path": None} for data in images]
        table = pa.table({"image": rows, "index": range(len(rows))}, schema=SCHEMA)
        return {"images.parquet": table}

    return make


def draw(latents, denoiser, class_id, settings):
    """Sample latents that are ``inversion_steps`` levels up down to clean ones (D3HR)."""
    steps, count = settings["steps"], settings["inversion_steps"]
    how = settings["guidance"], steps, count, settings["start"]
    return sample(denoiser, latents.to(denoiser.device), denoiser.condition(class_id), *how)


def redraw(latents, first, denoiser, class_id, seed, settings):
    """Give clean latents noise and sample them down again (D4M).

    Parameters
    ----------
    latents : (n, channels, h, w) float32
    first : int
        Index of the first of them within its class: each index has its own noise.
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    class_id : str
    seed : int
    settings : dict
        ``steps``, ``guidance``; ``strength``, the share of the steps that are run.

    Returns
    -------
    (n, channels, h, w) float32 on the denoiser's device

    Notes
    -----
    diffusers' convention of image to image: the last int(steps · strength) of the steps are run,
    and the noise is that of the first of them. No level at all: the latents come back.
    """
    count = min(int(settings["steps"] * settings["strength"]), settings["steps"])
    latents = latents.to(denoiser.device)
    if count == 0:
        return latents
    draws = [
        generator(seed, "noise", class_id, first + i).standard_normal(latent.shape, np.float32)
        for i, latent in enumerate(latents)
    ]
    noise = torch.from_numpy(np.stack(draws)).to(denoiser.device)
    level = denoiser.schedule.grid(settings["steps"])[count - 1]
    noised = denoiser.schedule.add_noise(latents, noise, level)
    how = settings["guidance"], settings["steps"], count
    return sample(denoiser, noised, denoiser.condition(class_id), *how)
