"""Latents: the posteriors of the training images by a denoiser's autoencoder.

Mean and standard deviation are stored: methods use the mean, or one sample, which is the same for
all methods.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import centre_box
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.crops import cut_many
from stillhouse.data.transforms import resampling, to_unit
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.errors import StillhouseError

NAMES = "images.json"


def latents(inputs, spec, context):
    """Stage: encode the training images of each class."""
    denoiser = load_denoiser(inputs["denoiser"], spec["settings"], context)
    shape = spec["settings"]["shape"]

    def make(class_id, context):
        rows = read_class(inputs["images"][class_id], "train", context.source_roots)
        means, stds = encode_rows(rows, denoiser, shape, context.batch_size, class_id)
        sizes = torch.tensor([mean.shape for mean in means], dtype=torch.int32).view(-1, 3)
        content = {"mean": _flat(means), "std": _flat(stds), "sizes": sizes}
        return {NAMES: rows.image_ids, "latents.safetensors": content}

    return make


def encode_rows(rows, denoiser, shape, batch_size, class_id=""):
    """Encode images, one batch in memory at a time.

    Parameters
    ----------
    rows : stillhouse.data.class_images.ClassImages
    denoiser : stillhouse.diffusion.denoisers.Denoiser
    shape : str
        See `model_inputs`.
    batch_size : int
        Images decoded together; those of one size are encoded together.
    class_id : str
        For the progress.

    Returns
    -------
    means, stds : lists of (channels, h, w) float32 tensors, in the order of `rows`
    """
    means, stds = [], []
    starts = range(0, len(rows), batch_size)
    for first in track(starts, len(starts), f"{class_id}: batches encoded"):
        pixels = [decode(data, name) for name, data in rows[first : first + batch_size]]
        posteriors = {}
        for places, images in model_inputs(pixels, denoiser, shape):
            mean, std = denoiser.encode(images)
            pairs = zip(mean.cpu(), std.cpu(), strict=True)
            posteriors |= dict(zip(places, pairs, strict=True))
        for i in range(len(pixels)):
            means.append(posteriors[i][0])
            stds.append(posteriors[i][1])
    return means, stds


def model_inputs(pixels, denoiser, shape):
    """Yield the inputs of the autoencoder, one batch per size, with their positions in `pixels`.

    Parameters
    ----------
    pixels : list of (3, height, width) uint8 arrays
    denoiser : stillhouse.diffusion.denoisers.Denoiser
        Its ``resolution`` and ``factor`` [px].
    shape : str
        ``square``: the largest centred square, resized to the resolution. ``aspect``: the
        complete image, its shorter side resized to the resolution, sides rounded to multiples of
        the factor.

    Yields
    ------
    list of int, and (n, 3, h, w) float32 in [-1, 1] on the denoiser's device
    """
    if shape == "square":
        boxes = [centre_box(*image.shape[1:])[None] for image in pixels]
        cuts = cut_many(pixels, boxes, denoiser.resolution, denoiser.device)
        yield list(range(len(pixels))), to_unit(cuts)
        return
    groups = {}
    for i, image in enumerate(pixels):
        size = aspect_size(*image.shape[1:], denoiser.resolution, denoiser.factor)
        groups.setdefault(size, []).append(i)
    for size, places in groups.items():
        resized = [resize(pixels[i], *size, denoiser.device) for i in places]
        yield places, to_unit(torch.stack(resized))


def aspect_size(height, width, resolution, factor):
    """Return (height, width) [px] of an image with its shorter side at `resolution`.

    Both are multiples of `factor`, so the aspect ratio changes by half a factor at most.
    """
    scale = resolution / min(height, width)
    sides = (max(round(side * scale / factor), 1) * factor for side in (height, width))
    return tuple(sides)


def resize(image, height, width, device):
    """Return a (3, h, w) uint8 array resized, (3, height, width) float32 in [0, 255]."""
    image = torch.tensor(image, device=device)
    down, across = (
        resampling(torch.zeros(1, device=device), torch.tensor([old], device=device), old, new)[0]
        for old, new in zip(image.shape[1:], (height, width), strict=True)
    )
    return down @ image.float() @ across.T


def _flat(parts):
    return torch.cat([part.reshape(-1) for part in parts]) if parts else torch.empty(0)


@dataclass(frozen=True)
class Latents:
    """The latents of one class.

    Parameters
    ----------
    names : list of str
        Image ids.
    sizes : (n, 3) int32 array
        Channels, height, width.
    mean, std : (sum of sizes,) float32 tensors
        Of the posteriors, concatenated by image, then channel; scaled.
    """

    names: list
    sizes: np.ndarray
    mean: torch.Tensor
    std: torch.Tensor

    def __len__(self):
        return len(self.names)

    def latent(self, i, choice, class_id):
        """Return the latent of image `i`, (channels, h, w) float32.

        Parameters
        ----------
        i : int
        choice : str
            ``mode``: the posterior's mean; ``sample``: one sample of it, the same at every call.
        class_id : str
            With the image id, the address of the sample.
        """
        size = tuple(int(side) for side in self.sizes[i])
        start, length = int(self._starts[i]), int(np.prod(size))
        mean = self.mean[start : start + length].view(size)
        if choice == "mode":
            return mean
        rng = generator(0, "posterior", class_id, self.names[i])
        draw = torch.from_numpy(rng.standard_normal(size, np.float32))
        return mean + self.std[start : start + length].view(size) * draw

    def stacked(self, choice, class_id):
        """Return all latents, (n, channels, h, w) float32; raise if they differ in size."""
        if len(self.by_size()) > 1:
            raise StillhouseError(
                f"class {class_id!r}: latents have {len(self.by_size())} sizes; latents.shape must "
                "be square"
            )
        return torch.stack([self.latent(i, choice, class_id) for i in range(len(self))])

    def by_size(self):
        """Return {(channels, h, w): positions of the images of that size}."""
        groups = {}
        for i, size in enumerate(self.sizes.tolist()):
            groups.setdefault(tuple(size), []).append(i)
        return groups

    @property
    def _starts(self):
        lengths = self.sizes.astype(np.int64).prod(1)
        return np.cumsum(lengths) - lengths


def read(path):
    """Return the `Latents` of a class from its ``latents.safetensors``."""
    tensors = store.read_tensors(path)
    names = store.read_json(path.parent / NAMES)
    return Latents(names, tensors["sizes"].numpy(), tensors["mean"], tensors["std"])
