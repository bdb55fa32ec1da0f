"""Coordinates in which images are optimised: those of the inputs of the matched networks.

Gradient descent is not invariant to linear maps of its variables. DC, DM and MTT optimise
normalised pixels, MTT with ZCA (distill.py, ``--zca``) whitened ones.
"""

import torch

from stillhouse.data.transforms import MEAN, STD


class Normalised:
    """Pixels normalised by ImageNet's mean and deviation."""

    def __init__(self, device):
        self.mean, self.std = (
            torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD)
        )

    def of(self, pixels):
        """Return the coordinates of pixels in [0, 1] and beyond, (n, 3, side, side) float32."""
        return (pixels - self.mean) / self.std

    def of_normalised(self, images):
        """Return the coordinates of normalised images."""
        return images

    def pixels(self, images):
        """Return the pixels that have these coordinates."""
        return images * self.std + self.mean

    def gradient(self, gradient):
        """Return the gradient to coordinates, from that to pixels in [0, 1]."""
        return gradient * self.std


class Whitened:
    """Pixels whitened by the map of the networks' inputs.

    Parameters
    ----------
    whitening : stillhouse.data.whitening.Whitening
        Its matrix is inverted, in float64; its eigenvalues are at most ε^(-1/2).
    """

    def __init__(self, whitening):
        self.whitening = whitening
        self.inverse = torch.linalg.inv(whitening.matrix.double()).float()

    def of(self, pixels):
        """Return the coordinates of pixels in [0, 1] and beyond, (n, 3, side, side) float32."""
        return self.whitening(pixels * 255)

    def of_normalised(self, images):
        """Return the coordinates of normalised images."""
        return self.of(Normalised(images.device).pixels(images))

    def pixels(self, images):
        """Return the pixels that have these coordinates."""
        return (images.flatten(1) @ self.inverse + self.whitening.mean).view(images.shape)

    def gradient(self, gradient):
        """Return the gradient to coordinates, from that to pixels in [0, 1]; W is symmetric."""
        return (gradient.flatten(1) @ self.inverse).view(gradient.shape)
