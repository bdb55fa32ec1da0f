"""Inversion: the latents of a class inverted to noise, and the statistics of the noise.

Zhao et al., "Taming Diffusion for Dataset Distillation with High Representativeness" (D3HR, 2025),
section 3.2: DDIM inversion of all images of a class, then mean and variance of each dimension.
Official code lin-zhao-resoLve/D3HR at 8ba351d, generation/dit_inversion_save_statistic.py.
"""

import numpy as np
import torch

from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.diffusion import latents as encoded
from stillhouse.diffusion.ddim import invert, pass_size, sample
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.methods.d3hr.normality import Moments, normality

# Latents per class that are stored before and after inversion, and sampled back for quality.
N_STORED = 64
N_ROUND_TRIPS = 16
# Range of images in [-1, 1].
PEAK = 2.0


def inversion(inputs, spec, context):
    """Stage: invert the latents of each class and store their moments.

    Notes
    -----
    paper: half precision throughout; here: networks in ``precision``, latents in float32 and sums
    in float64, because half precision is too coarse for third and fourth powers.
    """
    settings = spec["settings"]
    denoiser = load_denoiser(inputs["denoiser"], settings, context)

    def make(class_id, context):
        stored = encoded.read(inputs["latents"][class_id])
        rows = sampled_rows(len(stored), settings["images_per_class"], class_id)
        stack = stored.stacked(settings["latents"], class_id)[rows]
        names = [stored.names[row] for row in rows]
        state = invert_class(stack, names, denoiser, class_id, settings, context)
        quality = {
            "before": normality(state.moments["before"]),
            "after": {str(k): normality(state.moments[str(k)]) for k in settings["snapshots"]},
            "round_trip": {
                str(count): round_trip(state, i, count, denoiser, class_id, settings, context)
                for i, count in enumerate(settings["snapshots"])
            },
        }
        return {"quality.json": quality, "inversion.safetensors": _tensors(state, stack, settings)}

    return make


def sampled_rows(n, count, class_id):
    """Return the ascending rows of `count` random images of n; all rows for ``all``."""
    if count == "all":
        return list(range(n))
    return sorted(permutation(generator(0, "statistics", class_id), n)[:count].tolist())


class InversionState:
    """Moments before and after inversion, and the first latents, of the processed images.

    Parameters
    ----------
    snapshots : list of int
    size : (int, int, int)
        Of a latent.
    """

    def __init__(self, snapshots, size):
        self.done = 0
        self.moments = {name: Moments() for name in ("before", *map(str, snapshots))}
        self.before = torch.empty(0, *size)
        self.after = torch.empty(len(snapshots), 0, *size)

    def add(self, before, after):
        """Add a batch, (n, ...), and its latents at each snapshot, (S, n, ...), float32."""
        for moments, latents in zip(self.moments.values(), (before, *after), strict=True):
            moments.add(latents.flatten(1).numpy())
        missing = max(N_STORED - self.done, 0)
        self.before = torch.cat([self.before, before[:missing]])
        self.after = torch.cat([self.after, after[:, :missing]], dim=1)
        self.done += len(before)

    def state(self):
        """Return the state as (tensors, plain values) for a checkpoint."""
        tensors = {"before": self.before, "after": self.after}
        for name, moments in self.moments.items():
            tensors[f"{name}.origin"] = torch.from_numpy(moments.origin)
            tensors[f"{name}.sums"] = torch.from_numpy(moments.sums)
        return tensors, {"done": self.done}

    def restore(self, tensors, values):
        """Continue from a `state`."""
        self.done, self.before, self.after = values["done"], tensors["before"], tensors["after"]
        for name in self.moments:
            origin, sums = (tensors[f"{name}.{part}"].numpy() for part in ("origin", "sums"))
            self.moments[name] = Moments(self.done, origin, sums)


def invert_class(stack, names, denoiser, class_id, settings, context):
    """Invert all latents of a class and return the final `InversionState`.

    Parameters
    ----------
    stack : (n, channels, h, w) float32
    names : list of str
        Image ids.
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    class_id : str
    settings : dict
        Of the stage: ``steps``, ``snapshots``, ``guidance``, ``start``, ``noising``.
    context : stillhouse.artifacts.context.Context
        With a checkpoint in its ``work``, the job resumes after a batch.
    """
    state, checkpoint = InversionState(settings["snapshots"], stack.shape[1:]), Checkpoint(context)
    stored = checkpoint.resume(class_id, "image")
    if stored is not None:
        state.restore(*stored)
    step = pass_size(settings["guidance"], context.batch_size)
    starts = range(state.done, len(stack), step)
    for first in track(starts, len(starts), f"{class_id}: batches inverted"):
        batch = stack[first : first + step]
        if settings["noising"] == "forward":
            after = add_noise(batch, names[first : first + step], denoiser, class_id, settings)
        else:
            after = _inverted(batch, denoiser, class_id, settings)
        state.add(batch, after)
        if checkpoint.due(last=state.done == len(stack)):
            checkpoint.save(*state.state())
    return state


def _inverted(latents, denoiser, class_id, settings):
    """Return latents at all snapshots, (S, n, channels, h, w) float32 on the CPU."""
    by_snapshot = invert(
        denoiser,
        latents.to(denoiser.device),
        denoiser.condition(class_id),
        guidance=settings["guidance"],
        steps=settings["steps"],
        snapshots=settings["snapshots"],
        start=settings["start"],
    )
    inverted = torch.stack([by_snapshot[count] for count in settings["snapshots"]])
    denoiser.check_finite(inverted, "inverted latents")
    return inverted.cpu()


def add_noise(latents, names, denoiser, class_id, settings):
    """Return latents with fresh noise at all snapshots: the paper's "Base-DDPM".

    The noise of an image depends on its id alone and is the same at all snapshots.
    """
    levels = denoiser.schedule.grid(settings["steps"])
    draws = [
        generator(0, "diffusion", class_id, name).standard_normal(latents.shape[1:], np.float32)
        for name in names
    ]
    noise = torch.from_numpy(np.stack(draws))
    chosen = (levels[count - 1] for count in settings["snapshots"])
    return torch.stack([denoiser.schedule.add_noise(latents, noise, level) for level in chosen])


def round_trip(state, i, count, denoiser, class_id, settings, context):
    """Return the error of the first images after inversion to a snapshot and sampling back.

    Returns
    -------
    dict
        ``images``: their number; ``latent_mse``: mean squared difference of the latents; ``psnr``:
        of the decoded images, mean over images [dB], at most 106.
    """
    before, after = state.before[:N_ROUND_TRIPS], state.after[i, :N_ROUND_TRIPS]
    step, back, psnr = pass_size(settings["guidance"], context.batch_size), [], []
    for first in range(0, len(before), step):
        start = before[first : first + step].to(denoiser.device)
        end = after[first : first + step].to(denoiser.device)
        condition = denoiser.condition(class_id)
        end = sample(denoiser, end, condition, settings["guidance"], settings["steps"], count)
        error = (denoiser.decode(end) - denoiser.decode(start)).square().mean((1, 2, 3))
        back.append(end.cpu())
        psnr.append(10 * torch.log10(PEAK**2 / error.clamp(min=1e-10)).cpu())
    mse = (torch.cat(back) - before).double().square().mean().item()
    return {"images": len(before), "latent_mse": mse, "psnr": torch.cat(psnr).mean().item()}


def _tensors(state, stack, settings):
    """Return the content of ``inversion.safetensors``."""
    moments = [state.moments[str(count)] for count in settings["snapshots"]]
    mean = np.stack([one.mean for one in moments])
    # NaN for a class with a single image.
    variance = np.nan_to_num(np.stack([one.variance for one in moments]))
    return {
        "mean": torch.from_numpy(mean).float(),
        "variance": torch.from_numpy(variance).float(),
        "snapshots": torch.tensor(settings["snapshots"]),
        "count": torch.tensor([len(stack)]),
        "shape": torch.tensor(stack.shape[1:]),
        "before": state.before.flatten(1).half(),
        "after": state.after.flatten(2).half(),
    }
