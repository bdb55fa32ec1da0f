"""ZCA whitening: inputs of networks whose values are nearly uncorrelated over a dataset.

As in MTT (GeorgeCazenavette/mtt-distillation at 50dccea, utils.py), which calls kornia's
ZCAWhitening with eps 0.1 on the training images in [0, 1].
"""

import torch

from stillhouse.artifacts import store
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import normalise

# Images whose products are summed at once, in float64.
BATCH = 1024


def whitening(inputs, spec, context):
    """Stage: compute the whitening of the training images of a dataset, see `fit`."""

    def make(member, context):
        settings = spec["settings"]
        images, _ = load_split(
            inputs["images"],
            settings["classes"],
            settings["resolution"],
            "train",
            context.source_roots,
        )
        mean, matrix = fit(images, settings["epsilon"])
        return {"whitening.safetensors": {"mean": mean, "matrix": matrix}}

    return make


def fit(images, epsilon):
    """Return mean and matrix of the whitening of images.

    Parameters
    ----------
    images : (n, channels, height, width) uint8 tensor, or `StoredImages`
    epsilon : float
        Added to the variances of the principal components.

    Returns
    -------
    mean : (d,) float32
        Of the images in [0, 1], flattened, d = channels × height × width.
    matrix : (d, d) float32
        W = U (Λ + ε)^(-1/2) Uᵀ with U Λ Uᵀ the covariance of the images, whose sum of products is
        divided by n - 1. W is symmetric, and does not depend on the signs of U. Computed in
        float64.
    """
    mean = sum(batch.flatten(1).double().sum(0) for batch in images.split(BATCH))
    mean /= 255 * len(images)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for pixels in images.split(BATCH):
        batch = pixels.flatten(1)
        centred = batch.double() / 255 - mean
        covariance.addmm_(centred.T, centred, alpha=1 / (len(images) - 1))
    variances, components = torch.linalg.eigh(covariance)
    scale = (variances.clamp(min=0) + epsilon).rsqrt()
    return mean.float(), ((components * scale) @ components.T).float()


class Whitening:
    """The map from pixels to whitened inputs of networks; differentiable.

    Parameters
    ----------
    mean, matrix : tensors
        See `fit`.
    """

    def __init__(self, mean, matrix):
        self.mean, self.matrix = mean, matrix

    def __call__(self, pixels):
        """Return pixels in [0, 255] whitened, float32, of the same shape."""
        centred = pixels.flatten(1).float() / 255 - self.mean
        return (centred @ self.matrix).view(pixels.shape)


def preparation(inputs, device):
    """Return the function from pixels in [0, 255] to the inputs of a job's networks.

    Parameters
    ----------
    inputs : dict
        Of the job; ``whitening``, if the networks expect whitened inputs.
    device : torch.device

    Returns
    -------
    callable
        `normalise`, or a `Whitening`.
    """
    if "whitening" not in inputs:
        return normalise
    tensors = store.read_tensors(inputs["whitening"], device)
    return Whitening(tensors["mean"], tensors["matrix"])
