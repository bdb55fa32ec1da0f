"""The noise schedule of a diffusion model, as pure maths: no network, no state.

A latent at level t is sqrt(ᾱ_t) z + sqrt(1 - ᾱ_t) ε (Ho et al., "Denoising Diffusion Probabilistic
Models", NeurIPS 2020, eq. 4); a step between two levels is that of Song et al., "Denoising
Diffusion Implicit Models" (ICLR 2021, eq. 12 with σ = 0).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stillhouse.errors import StillhouseError

# The level of a latent without noise: below all levels that networks are trained on.
CLEAN = -1
MAX_BETA = 0.999


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
        What the network puts out: ``epsilon`` (the noise) or ``v_prediction``.
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
            ``prediction_type`` (epsilon, v_prediction). Absent ones are diffusers' defaults.
        where : str or Path
            Named in errors.

        Raises
        ------
        StillhouseError
            If it says something else.
        """
        alphas = np.cumprod(1 - _betas(config, where))
        prediction = config.get("prediction_type", "epsilon")
        if prediction not in ("epsilon", "v_prediction"):
            raise StillhouseError(
                f"{where}: prediction_type is {prediction!r}; should be epsilon or v_prediction"
            )
        if config.get("rescale_betas_zero_snr"):
            raise StillhouseError(
                f"{where}: rescale_betas_zero_snr is true, so the last level has no signal to "
                "start from; should be false"
            )
        clean = 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0])
        return cls(alphas, clean, prediction)

    @classmethod
    def read(cls, path):
        """Return the schedule of a ``scheduler_config.json`` on disk."""
        try:
            config = json.loads(Path(path).read_text())
        except ValueError:
            raise StillhouseError(f"{path}: is not the JSON of a scheduler's settings") from None
        return cls.from_config(config, path)

    def alpha(self, t):
        """Return ᾱ of level `t`: 0 to T - 1, or `CLEAN`."""
        if not CLEAN <= t < len(self.alphas):
            raise IndexError(f"level {t} is not between {CLEAN} and {len(self.alphas) - 1}")
        return self.clean if t == CLEAN else float(self.alphas[t])

    def grid(self, steps):
        """Return `steps` levels, T // steps apart, from 0 up: diffusers' "leading" spacing."""
        if not 1 <= steps <= len(self.alphas):
            raise StillhouseError(
                f"a grid of {steps} steps; should have between 1 and {len(self.alphas)}"
            )
        return [i * (len(self.alphas) // steps) for i in range(steps)]

    def add_noise(self, latents, noise, timesteps):
        """Bring clean latents to the levels `timesteps`.

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
        """Return the noise that a network's output at levels `timesteps` says is in `latents`.

        All (n, ...) float32. A v-prediction is sqrt(ᾱ) ε - sqrt(1 - ᾱ) z (Salimans and Ho, ICLR
        2022), of latents that are at these levels.
        """
        if self.prediction == "epsilon":
            return output
        signal, noisy = self._shares(timesteps, latents)
        return signal * output + noisy * latents

    def move(self, latents, noise, from_t, to_t):
        """Take one DDIM step, without fresh noise, from level `from_t` to `to_t`, up or down.

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


def _betas(config, where):
    """Return β_t, (T,) float64."""
    if config.get("trained_betas"):
        return np.asarray(config["trained_betas"], np.float64)
    count, kind = config.get("num_train_timesteps", 1000), config.get("beta_schedule", "linear")
    first, last = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    if kind == "linear":
        return np.linspace(first, last, count)
    if kind == "scaled_linear":
        return np.linspace(math.sqrt(first), math.sqrt(last), count) ** 2
    if kind == "squaredcos_cap_v2":
        # Nichol and Dhariwal, ICML 2021, eq. 17.
        share = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - share[1:] / share[:-1], MAX_BETA)
    raise StillhouseError(
        f"{where}: beta_schedule is {kind!r}; should be linear, scaled_linear or squaredcos_cap_v2"
    )
