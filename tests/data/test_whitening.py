"""ZCA whitening against a plain version in NumPy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.data.splits import StoredImages, load_split
from stillhouse.data.transforms import normalise
from stillhouse.data.whitening import BATCH, Whitening, fit, preparation

CLASSES = ["0", "1", "2"]
CPU = torch.device("cpu")


def pixels_of(n, side=4):
    """Return images of which neighbouring pixels are correlated."""
    rng = np.random.default_rng(0)
    images = rng.normal(128, 30, (n, 3, side, side)) + rng.normal(0, 40, (n, 1, 1, side))
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def matrix_by_hand(images, epsilon):
    """Return (Σ + ε)^(-1/2) by a singular value decomposition, as kornia's ZCAWhitening."""
    flat = images.numpy().reshape(len(images), -1) / 255
    u, variances, _ = np.linalg.svd(np.cov(flat, rowvar=False, ddof=1))
    return flat.mean(0), u @ np.diag(1 / np.sqrt(variances + epsilon)) @ u.T


@pytest.mark.parametrize("epsilon", [0.1, 1e-4])
def test_images_are_whitened_as_by_a_plain_version(epsilon):
    images = pixels_of(200)
    mean, matrix = matrix_by_hand(images, epsilon)
    whitened = Whitening(*fit(images, epsilon))(images)
    flat = (images.numpy().reshape(200, -1) / 255 - mean) @ matrix
    np.testing.assert_allclose(whitened.numpy(), flat.reshape(200, 3, 4, 4), rtol=1e-4, atol=1e-4)


def test_the_whitening_of_images_in_a_file_is_the_same(empty):
    images = pixels_of(BATCH + 100)
    in_file = fit(StoredImages(tuple(images.shape), [images]), 0.1)
    assert all(map(torch.equal, in_file, fit(images, 0.1)))


def test_the_covariance_is_the_identity_shrunk_by_epsilon():
    images = pixels_of(500)
    whitened = Whitening(*fit(images, 0.01))(images).flatten(1).double().numpy()
    variances = np.linalg.eigvalsh(np.cov(images.flatten(1).double().numpy() / 255, rowvar=False))
    shrunk = np.linalg.eigvalsh(np.cov(whitened, rowvar=False))
    np.testing.assert_allclose(shrunk, variances / (variances + 0.01), atol=1e-4)
    np.testing.assert_allclose(whitened.mean(0), 0, atol=1e-4)


def test_pixels_that_never_vary_are_finite_and_zero():
    images = pixels_of(20)
    images[:, :, 0] = 7
    whitened = Whitening(*fit(images, 0.1))(images)
    assert whitened.isfinite().all()
    torch.testing.assert_close(whitened[:, :, 0], torch.zeros(20, 3, 4), atol=1e-5, rtol=0)


def test_the_whitening_does_not_depend_on_batches_beyond_rounding(monkeypatch):
    images = pixels_of(BATCH + 5)
    parts = fit(images, 0.1)
    monkeypatch.setattr("stillhouse.data.whitening.BATCH", 7)
    for own, other in zip(fit(images, 0.1), parts, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-7)


def test_gradients_pass_through_it():
    whitening = Whitening(*(part.double() for part in fit(pixels_of(30), 0.1)))
    pixels = pixels_of(2).float().requires_grad_(True)
    weights = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    (whitening(pixels) * weights).sum().backward()
    # W is symmetric.
    wanted = weights.flatten(1).double() @ whitening.matrix / 255
    torch.testing.assert_close(pixels.grad.double(), wanted.view(2, 3, 4, 4), rtol=1e-5, atol=1e-6)


def test_the_stage_is_of_the_training_images(tiny, planned, make, empty):
    tiny["students"]["s"]["zca"] = 0.1
    tiny["datasets"]["three"]["classes"] = ["2", "0", "1"]
    plan = planned(tiny)
    (artifact,) = plan.artifacts["whitening"].values()
    for part in ("index", "images"):
        source = artifact.upstream["images"].upstream[part]
        make(source, CLASSES if part == "images" else ())
    images = artifact.upstream["images"].upstream["images"]
    files = {class_id: images.member_file(class_id) for class_id in CLASSES}
    make(artifact)
    pixels, _ = load_split(files, CLASSES, 8, "train")
    prepared = preparation({"whitening": Path(artifact.file)}, CPU)(pixels)
    assert torch.equal(prepared, Whitening(*fit(pixels, 0.1))(pixels))


def test_inputs_without_whitening_are_normalised():
    assert preparation({}, CPU) is normalise
