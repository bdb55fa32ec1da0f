"""The noise schedule of a diffusion model as pure functions: no network, no state.

A latent at level t is sqrt(ᾱ_t) z + sqrt(1 - ᾱ_t) ε (Ho et al., "Denoising Diffusion Probabilistic
Models", NeurIPS 2020, eq. 4); a step between two levels is that of Song et al., "Denoising
Diffusion Implicit Models" (ICLR 2021, eq. 12 with σ = 0).
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stillhouse.errors import StillhouseError, one_line

# The level of a latent without noise: below all levels that networks are trained on.
CLEAN = -1
# More would take minutes.
MOST_LEVELS = 100_000
# Samplers of diffusers whose settings are betas and whose networks predict noise or v.
SAMPLERS = re.compile(
    r"(DDIM|DDPM|PNDM|LMSDiscrete|Euler(Ancestral)?Discrete|HeunDiscrete|KDPM2\w*|DPMSolver\w*"
    r"|UniPCMultistep|DEISMultistep)(Inverse|Parallel)?Scheduler"
)
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
BETA_SETTINGS = (
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "set_alpha_to_one",
)


@dataclass(frozen=True)
class NoiseSchedule:
    """The levels of a diffusion model.

    Parameters
    ----------
    alphas : (T,) float64 array
        ᾱ_t, the share of a latent's variance that is signal; falls with t.
    clean : float
        ᾱ of the level `CLEAN`; 1 in the papers.
    prediction : str
        Output of the network: ``epsilon`` (the noise) or ``v_prediction``.
    """

    alphas: np.ndarray
    clean: float = 1.0
    prediction: str = "epsilon"

    @classmethod
    def from_config(cls, config, where="scheduler_config.json"):
        """Return the schedule that a diffusers ``scheduler_config.json`` describes.

        Parameters
        ----------
        config : dict
            ``num_train_timesteps``, ``beta_schedule`` (linear, scaled_linear, squaredcos_cap_v2)
            with ``beta_start`` and ``beta_end``, or ``trained_betas``; ``set_alpha_to_one``;
            ``prediction_type`` (epsilon, v_prediction); ``_class_name`` (one of `SAMPLERS`).
            Diffusers' defaults if missing.
        where : str or Path
            File, for error messages.

        Raises
        ------
        StillhouseError
            For other values.

        Notes
        -----
        ᾱ is that of diffusers' DDIMScheduler, whose float32 is within 2e-5 (relative) of float64.
        """
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        sampler = config.get("_class_name", "DDIMScheduler")
        if not SAMPLERS.fullmatch(str(sampler)):
            raise StillhouseError(
                f"{where}: _class_name: {one_line(repr(sampler))} is not supported; must be a "
                "scheduler with betas, such as DDIMScheduler"
            )
        prediction = config.get("prediction_type", "epsilon")
        beta_schedule = config.get("beta_schedule", "linear")
        if prediction not in ("epsilon", "v_prediction"):
            raise StillhouseError(
                f"{where}: prediction_type: invalid {prediction!r}; must be epsilon or v_prediction"
            )
        if beta_schedule not in BETA_SCHEDULES and not config.get("trained_betas"):
            raise StillhouseError(
                f"{where}: beta_schedule: unknown {beta_schedule!r}; must be one of "
                f"{', '.join(BETA_SCHEDULES)}"
            )
        if config.get("rescale_betas_zero_snr"):
            raise StillhouseError(
                f"{where}: rescale_betas_zero_snr: must be false; with true, the last level has no "
                "signal"
            )
        levels = config.get("num_train_timesteps", 1000)
        if not isinstance(levels, int) or not 1 <= levels <= MOST_LEVELS:
            raise StillhouseError(
                f"{where}: num_train_timesteps: invalid {levels!r}; must be 1 to {MOST_LEVELS}"
            )
        try:
            scheduler = DDIMScheduler(**{k: config[k] for k in BETA_SETTINGS if k in config})
            alphas = scheduler.alphas_cumprod.double().numpy()
        except Exception as error:  # of any type, for settings of another type
            raise StillhouseError(
                f"{where}: settings that diffusers cannot use ({one_line(error)}); must be of a "
                "DDIMScheduler"
            ) from None
        if not ((alphas > 0) & (alphas <= 1)).all():
            raise StillhouseError(
                f"{where}: betas from {config.get('beta_start')} to {config.get('beta_end')} leave "
                "no signal; must be between 0 and 1"
            )
        return cls(alphas, float(scheduler.final_alpha_cumprod), prediction)

    @classmethod
    def read(cls, path):
        """Return the schedule of a ``scheduler_config.json`` on disk."""
        try:
            config = json.loads(Path(path).read_bytes())
        except (OSError, ValueError, RecursionError):
            config = None
        if not isinstance(config, dict):
            raise StillhouseError(f"{path}: invalid JSON; must be scheduler settings")
        return cls.from_config(config, path)

    def alpha(self, t):
        """Return ᾱ of level `t`: 0 to T - 1, or `CLEAN`."""
        if not CLEAN <= t < len(self.alphas):
            raise IndexError(f"level {t} is not between {CLEAN} and {len(self.alphas) - 1}")
        return self.clean if t == CLEAN else float(self.alphas[t])

    def grid(self, steps):
        """Return `steps` ascending levels from 0, T // steps apart (diffusers' "leading")."""
        if not 1 <= steps <= len(self.alphas):
            raise StillhouseError(
                f"steps: invalid {steps}; must be 1 to {len(self.alphas)}, the trained levels"
            )
        return [i * (len(self.alphas) // steps) for i in range(steps)]

    def add_noise(self, latents, noise, timesteps):
        """Add noise to clean latents, to the levels `timesteps`.

        Parameters
        ----------
        latents, noise : (n, ...) float32
        timesteps : int or (n,) int64
            0 to T - 1.

        Returns
        -------
        (n, ...) float32
        """
        signal, noisy = self._shares(timesteps, latents)
        return signal * latents + noisy * noise

    def to_noise(self, output, latents, timesteps):
        """Return the noise in `latents` by a network's output at levels `timesteps`.

        All (n, ...) float32; latents are at these levels. A v-prediction is sqrt(ᾱ) ε - sqrt(1 - ᾱ)
        z (Salimans and Ho, ICLR 2022).
        """
        if self.prediction == "epsilon":
            return output
        signal, noisy = self._shares(timesteps, latents)
        return signal * output + noisy * latents

    def move(self, latents, noise, from_t, to_t):
        """Return latents after one deterministic DDIM step from level `from_t` to `to_t`.

        Parameters
        ----------
        latents, noise : (n, ...) float32
        from_t, to_t : int
            Levels, `CLEAN` included.

        Returns
        -------
        (n, ...) float32
        """
        start, end = self.alpha(from_t), self.alpha(to_t)
        scale = math.sqrt(end / start)
        return scale * latents + (math.sqrt(1 - end) - scale * math.sqrt(1 - start)) * noise

    def _shares(self, timesteps, latents):
        """Return sqrt(ᾱ) and sqrt(1 - ᾱ): numbers, or float32 tensors that broadcast."""
        if isinstance(timesteps, int):
            alpha = self.alpha(timesteps)
            return math.sqrt(alpha), math.sqrt(1 - alpha)
        alphas = torch.from_numpy(self.alphas[timesteps.cpu().numpy()])
        alphas = alphas.view(-1, *[1] * (latents.ndim - 1))
        return tuple(part.sqrt().to(latents) for part in (alphas, 1 - alphas))
