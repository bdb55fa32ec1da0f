"""Image to image by the scheduler that is stored with a denoiser, as diffusers' pipelines do it.

Stable Diffusion's is PNDM (Liu et al., ICLR 2022; without Runge-Kutta steps): a multistep method
whose list of timesteps has an offset of 1 and the second of its levels twice. With 50 steps of 1000
and strength 0.7 it starts at 701 and evaluates the network 36 times, DDIM's grid at 680 and 35
times. D4M (suduo94/D4M at da35d10, gen_syn_image.py) uses the pipeline of Stable Diffusion 1.5.
"""

import importlib
import json

from stillhouse.diffusion.ddim import guided
from stillhouse.errors import StillhouseError

# Deterministic schedulers, by their names in `scheduler_config.json`.
MODULES = {"PNDMScheduler": "scheduling_pndm", "DDIMScheduler": "scheduling_ddim"}


def load_scheduler(folder):
    """Return the diffusers scheduler of a denoiser's folder, for predictions of the noise.

    Parameters
    ----------
    folder : Path
        In diffusers' layout, with ``scheduler/scheduler_config.json``, whose ``_class_name`` is one
        of `MODULES`; DDIM if it has none.

    Raises
    ------
    StillhouseError
        For another class.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    name = config.get("_class_name", "DDIMScheduler")
    if name not in MODULES:
        raise StillhouseError(
            f"{path}: _class_name: {name!r} conflicts with scheduler: own, which supports "
            f"{' and '.join(MODULES)}; set scheduler: ddim"
        )
    module = importlib.import_module(f"diffusers.schedulers.{MODULES[name]}")
    # A v-prediction is converted by the denoiser.
    return getattr(module, name).from_config({**config, "prediction_type": "epsilon"})


def image_to_image(denoiser, latents, noise, condition, guidance, steps, strength):
    """Add noise to clean latents and denoise them by the denoiser's own scheduler.

    Parameters
    ----------
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    latents, noise : (n, channels, h, w) float32
        On the denoiser's device.
    condition : (1, ...) tensor
    guidance : float
    steps : int
        Of the complete list.
    strength : float
        Share of the steps that is run: the last int(steps · strength), which may be one call more
        than steps. For 0 steps, latents are returned unchanged.

    Returns
    -------
    (n, channels, h, w) float32
    """
    scheduler = load_scheduler(denoiser.folder)
    scheduler.set_timesteps(steps)
    count = min(int(steps * strength), steps)
    if count == 0:
        return latents
    timesteps = scheduler.timesteps[(steps - count) * scheduler.order :]
    latents = scheduler.add_noise(latents, noise, timesteps[:1])
    for timestep in timesteps:
        predicted = guided(denoiser, latents, int(timestep), condition, guidance)
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    return latents
