import numpy as np
import pytest
import torch
from PIL import Image
from stillhouse.augmentation import ops as operations
from stillhouse.augmentation.ops import NAMES, OPERATIONS, apply
from stillhouse.augmentation.policies import RANDAUGMENT, STRONGEST, _magnitude

autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")

SIDE = 20


def images(n=6, side=SIDE, seed=0):
    """Return uint8 images of smooth colours and some noise."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(30, 220, (n, 3, 4, 4)))
    smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return (smooth + torch.from_numpy(rng.normal(0, 6, smooth.shape))).clamp(0, 255).byte()


def pillow(image, name, magnitude):
    """Apply an operation of torchvision's RandAugment to a Pillow image, as EDC's code does."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    nearest = autoaugment.InterpolationMode.NEAREST
    changed = autoaugment._apply_op(picture, name, magnitude, nearest, None)
    return torch.from_numpy(np.array(changed)).permute(2, 0, 1)


def apply_one(name, shown, magnitude):
    """Apply one operation with one magnitude to all images."""
    ops = torch.full((len(shown), 1), NAMES.index(name))
    magnitudes = torch.full((len(shown), 1), float(magnitude))
    return apply(shown, ops, magnitudes, OPERATIONS[name][0])


@pytest.mark.parametrize("strength", [3, 12, 23, 30])
@pytest.mark.parametrize("name", RANDAUGMENT)
def test_randaugments_operations_are_pillows(name, strength):
    largest = float(np.float32(_magnitude(name, strength, SIDE)))
    shown = images()
    for magnitude in {largest, -largest} if name in STRONGEST else {largest}:
        actual = apply_one(name, shown, magnitude)
        expected = torch.stack([pillow(image, name, magnitude) for image in shown])
        assert actual.dtype == torch.uint8
        close = (actual.int() - expected.int()).abs() <= 1
        # Between two equally near pixels, Pillow may choose the other one.
        ties = name in ("ShearX", "ShearY", "Rotate")
        assert close.float().mean() > 0.97 if ties else close.all()
        if name not in ("Identity", "Posterize") and strength > 9:
            assert (actual != shown).float().mean() > 0.02


def test_operations_have_the_names_of_torchvisions_randaugment():
    space = autoaugment.RandAugment()._augmentation_space(31, (SIDE, SIDE))
    assert set(RANDAUGMENT) == set(operations.BYTE_OPERATIONS) == set(space)
    # Positions of stored views.
    assert NAMES[:3] == ("Identity", "ShearX", "ShearY")
    assert NAMES[13:15] == ("Equalize", "brightness")


def test_a_uniform_image_is_unchanged():
    flat = torch.full((2, 3, 8, 8), 77, dtype=torch.uint8)
    for name in ("Equalize", "AutoContrast", "Sharpness", "Color", "Contrast"):
        assert (apply_one(name, flat, 0.5).int() - flat.int()).abs().max() <= 1, name


def test_rows_get_their_own_operations_in_order():
    shown = images(n=8)
    rng = np.random.default_rng(1)
    ops = rng.integers(0, 14, (8, 3))
    magnitudes = np.array([[_magnitude(NAMES[op], 12, SIDE) for op in row] for row in ops])
    tensors = torch.from_numpy(ops), torch.from_numpy(magnitudes).float()
    actual = apply(shown, *tensors, "bytes")
    for row in range(8):
        alone = shown[row : row + 1]
        for op, magnitude in zip(ops[row], magnitudes[row], strict=True):
            alone = apply_one(NAMES[op], alone, magnitude)
        assert torch.equal(actual[row], alone[0])
    assert torch.equal(apply(shown, *tensors, "another place"), shown)
    assert torch.equal(shown, images(n=8))


def test_the_identity_map_does_not_change_images():
    shown = images().float()
    identity = operations.affine_matrices(shown, {})
    assert torch.allclose(operations.warp(shown, identity), shown, atol=1e-3)


def naive_jitter(image, name, share):
    """Interpolate as IDC's misc/utils.py does, on one image in [0, 1]."""
    luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    other = {
        "brightness": torch.zeros_like(image),
        "contrast": torch.full_like(image, luma.mean().item()),
        "saturation": luma.expand(3, -1, -1),
    }[name]
    return image.lerp(other, share)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("share", [-0.4, 0.1, 0.4])
def test_jitter_interpolates_towards_black_and_grey(name, share):
    shown = images().float()
    actual = apply_one(name, shown, share) / 255
    for image, changed in zip(shown / 255, actual, strict=True):
        assert torch.allclose(changed, naive_jitter(image, name, share), atol=1e-5)
    assert (actual - shown / 255).abs().max() > 0.02


def test_jitter_does_not_clamp():
    assert apply_one("brightness", images().float(), -0.4).max() > 255


def test_lighting_shifts_along_the_components():
    shown, alphas = images().float(), [0.1, -0.2, 0.05]
    actual = shown
    for i, alpha in enumerate(alphas):
        actual = apply_one(f"lighting{i + 1}", actual, alpha)
    vectors, values = np.array(operations.COMPONENTS), np.array(operations.EIGENVALUES)
    # As in IDC: the sum over columns of vectors · alpha · value.
    shift = (vectors * np.array(alphas)[None] * values[None]).sum(1)
    moved = (actual - shown).double().mean((0, 2, 3)) / 255
    assert moved.tolist() == pytest.approx(shift.tolist(), abs=1e-6)
    # Columns are orthonormal.
    assert vectors.T @ vectors == pytest.approx(np.eye(3), abs=1e-3)


def normal(n=4, side=12, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 1, (n, 3, side, side))).float()


def test_siamese_colours_by_hand():
    shown = normal()
    assert torch.allclose(apply_one("siamese_brightness", shown, -0.3), shown - 0.3, atol=1e-6)
    for image, actual in zip(shown, apply_one("siamese_saturation", shown, 1.7), strict=True):
        middle = image.mean(0)
        assert torch.allclose(actual, middle + 1.7 * (image - middle), atol=1e-5)
    for image, actual in zip(shown, apply_one("siamese_contrast", shown, 0.6), strict=True):
        middle = image.mean()
        assert torch.allclose(actual, middle + 0.6 * (image - middle), atol=1e-5)


@pytest.mark.parametrize("pixels", [-2, 0, 1])
def test_siamese_crops_are_zero_outside(pixels):
    shown = normal()
    down, across = (apply_one(f"siamese_crop_{axis}", shown, pixels) for axis in "yx")
    for i in range(12):
        inside = 0 <= i + pixels < 12
        row = shown[:, :, i + pixels] if inside else torch.zeros(4, 3, 12)
        column = shown[:, :, :, i + pixels] if inside else torch.zeros(4, 3, 12)
        assert torch.equal(down[:, :, i], row)
        assert torch.equal(across[:, :, :, i], column)


@pytest.mark.parametrize("side", [12, 14])
@pytest.mark.parametrize("centre", [(0, 0), (3, 9), (5, 12), (11, 0)])
def test_siamese_cutouts_are_clipped(side, centre):
    shown = normal(side=side)
    y, x = centre
    actual = apply_one("siamese_cutout", shown, y * (side + 1) + x)
    half = int(side / 2 + 0.5)
    wanted = shown.clone()
    for row in range(y - half // 2, y - half // 2 + half):
        for column in range(x - half // 2, x - half // 2 + half):
            if 0 <= row < side and 0 <= column < side:
                wanted[:, :, row, column] = 0
    assert torch.equal(actual, wanted)
    assert (actual == 0).any()


def test_siamese_flips():
    shown = normal()
    assert torch.equal(apply_one("siamese_flip", shown, 1), shown.flip(3))
    assert torch.equal(apply_one("siamese_flip", shown, 0), shown)


def naive_warp(image, source):
    """Sample an image at `source` (y, x from the centre) per pixel, bilinear, zero outside."""
    side = image.shape[-1]
    actual = torch.zeros_like(image)
    for i in range(side):
        for j in range(side):
            y, x = source(i - (side - 1) / 2, j - (side - 1) / 2)
            y, x = y + (side - 1) / 2, x + (side - 1) / 2
            for row in (int(np.floor(y)), int(np.floor(y)) + 1):
                for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                    if 0 <= row < side and 0 <= column < side:
                        share = (1 - abs(y - row)) * (1 - abs(x - column))
                        actual[:, i, j] += share * image[:, row, column]
    return actual


def test_siamese_scales_and_rotations_are_bilinear():
    shown = normal(n=2, side=8)
    both = apply_one("siamese_scale_y", apply_one("siamese_scale_x", shown, 1.15), 0.9)
    turned = apply_one("siamese_rotate", shown, 12)
    cos, sin = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
    for image, scaled, rotated in zip(shown, both, turned, strict=True):
        wanted = naive_warp(image, lambda y, x: (0.9 * y, 1.15 * x))
        assert torch.allclose(scaled, wanted, atol=1e-4)
        wanted = naive_warp(image, lambda y, x: (sin * x + cos * y, cos * x - sin * y))
        assert torch.allclose(rotated, wanted, atol=1e-4)


@pytest.mark.parametrize("name", [n for n, (place, _) in OPERATIONS.items() if place != "bytes"])
def test_operations_on_views_are_differentiable(name):
    shown = normal().requires_grad_()
    apply_one(name, shown, 1).square().sum().backward()
    assert shown.grad.isfinite().all()
    assert (shown.grad != 0).any() or name == "brightness"
