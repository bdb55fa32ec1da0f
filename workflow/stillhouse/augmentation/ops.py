"""Augmentation operations on batches, on the device, with a magnitude per row.

RandAugment's operations (Cubuk et al. 2020) are torchvision's; they act on uint8 images before the
crop. Colour jitter and lighting act on the view after crop and flip, in [0, 255] and beyond. The
operations of siamese augmentation (Zhao & Bilen 2021) are differentiable and act on the normalised
view, where zero is the mean colour.
"""

import math

import torch
from torch.nn.functional import affine_grid, grid_sample

GREY = (0.299, 0.587, 0.114)
# Principal components of ImageNet's colours in [0, 1], one per column, and their eigenvalues
# (AlexNet's lighting noise; Minimax data.py).
COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
EIGENVALUES = (0.2175, 0.0188, 0.0045)


def apply(images, ops, magnitudes, place):
    """Apply the operations of every row, one column after the other.

    Parameters
    ----------
    images : (n, 3, side, side) tensor
        uint8 for ``bytes``, else float32.
    ops : (n, k) int64 tensor
        Positions in `NAMES`.
    magnitudes : (n, k) float32 tensor
    place : str
        ``bytes``, ``view`` or ``normalised``; operations of other places are skipped.

    Returns
    -------
    (n, 3, side, side) tensor of the same type
    """
    for column in range(ops.shape[1]):
        numbers = ops[:, column].unique().tolist()
        for number in numbers:
            operation_place, operation = OPERATIONS[NAMES[number]]
            if operation_place == place and len(numbers) == 1:
                images = operation(images, magnitudes[:, column])
            elif operation_place == place:
                rows = (ops[:, column] == number).nonzero()[:, 0]
                changed = operation(images[rows], magnitudes[rows, column])
                images = images.index_copy(0, rows, changed)
    return images


def warp(images, matrices):
    """Return images under affine maps, bilinear, with zeros outside.

    Parameters
    ----------
    images : (n, 3, side, side) float32 tensor
    matrices : (n, 2, 3) float32 tensor
        From positions in the result to positions in the image; both range from -1 to 1.
    """
    grid = affine_grid(matrices, images.shape, align_corners=False)
    return grid_sample(images, grid, "bilinear", "zeros", align_corners=False)


def affine_matrices(like, entries):
    """Return identity maps, (n, 2, 3), with other `entries`, {(row, column): (n,) tensor}.

    `like` gives the number of rows and the device.
    """
    matrices = torch.eye(2, 3, device=like.device).repeat(len(like), 1, 1)
    for (row, column), value in entries.items():
        matrices[:, row, column] = value
    return matrices


def rotation(degrees):
    """Return the maps of anticlockwise rotations about the centre, (n, 2, 3)."""
    angle = torch.deg2rad(degrees)
    cos, sin = angle.cos(), angle.sin()
    return affine_matrices(degrees, {(0, 0): cos, (0, 1): -sin, (1, 0): sin, (1, 1): cos})


def grey(images):
    """Return the luma of images, (n, 1, side, side)."""
    weights = images.new_tensor(GREY)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def blend(images, other, weight):
    """Return weight × images + (1 - weight) × other; weights may lie outside [0, 1]."""
    return torch.lerp(other.expand_as(images), images, weight[:, None, None, None])


def _affine(images, shear=(0.0, 0.0), translate=(0, 0), center=None):
    from torchvision.transforms.v2.functional import InterpolationMode, affine

    return affine(
        images,
        angle=0.0,
        translate=list(translate),
        scale=1.0,
        shear=list(shear),
        interpolation=InterpolationMode.NEAREST,
        center=center,
    )


def _shear(images, x=0.0, y=0.0):
    """Shear by slopes about the upper left corner, as torchvision's RandAugment."""
    degrees = math.degrees(math.atan(x)), math.degrees(math.atan(y))
    return _affine(images, shear=degrees, center=[0, 0])


def _rotate(images, degrees):
    from torchvision.transforms.v2.functional import InterpolationMode, rotate

    return rotate(images, degrees, interpolation=InterpolationMode.NEAREST)


def _torchvision(name, images, *arguments):
    """Call a function of torchvision; importing it takes seconds, so on demand."""
    from torchvision.transforms.v2 import functional

    return getattr(functional, name)(images, *arguments)


# RandAugment's operations: functions of uint8 images and one magnitude.
BYTE_OPERATIONS = {
    "Identity": lambda images, _: images,
    "ShearX": lambda images, slope: _shear(images, x=slope),
    "ShearY": lambda images, slope: _shear(images, y=slope),
    "TranslateX": lambda images, pixels: _affine(images, translate=(int(pixels), 0)),
    "TranslateY": lambda images, pixels: _affine(images, translate=(0, int(pixels))),
    "Rotate": _rotate,
    "Brightness": lambda images, m: _torchvision("adjust_brightness", images, 1 + m),
    "Color": lambda images, m: _torchvision("adjust_saturation", images, 1 + m),
    "Contrast": lambda images, m: _torchvision("adjust_contrast", images, 1 + m),
    "Sharpness": lambda images, m: _torchvision("adjust_sharpness", images, 1 + m),
    "Posterize": lambda images, bits: _torchvision("posterize", images, int(bits)),
    "Solarize": lambda images, threshold: _torchvision("solarize", images, threshold),
    "AutoContrast": lambda images, _: _torchvision("autocontrast", images),
    "Equalize": lambda images, _: _torchvision("equalize", images),
}


def _per_magnitude(function):
    """Return an operation that applies a function to all rows of one magnitude at a time."""

    def operation(images, magnitudes):
        result = torch.empty_like(images)
        for magnitude in magnitudes.unique().tolist():
            rows = (magnitudes == magnitude).nonzero()[:, 0]
            result[rows] = function(images[rows], magnitude)
        return result

    return operation


def _lighting(component):
    shift = [255 * EIGENVALUES[component] * row[component] for row in COMPONENTS]

    def operation(images, magnitude):
        return images + magnitude[:, None, None, None] * images.new_tensor(shift)[:, None, None]

    return operation


def _shift(images, pixels, axis):
    """Shift images by `pixels` towards the start of an axis, with zeros from outside."""
    positions = torch.arange(images.shape[-1], device=images.device)
    source = positions + pixels.long()[:, None]
    inside = (source >= 0) & (source < len(positions))
    shape = (len(images), 1, -1, 1) if axis == 2 else (len(images), 1, 1, -1)
    source = source.clamp(0, len(positions) - 1).view(shape).expand_as(images)
    return images.gather(axis, source) * inside.view(shape)


def _cutout(images, centre):
    """Set a square of half the side to zero; centres count row by row over side + 1 columns."""
    side = images.shape[-1]
    half = int(side / 2 + 0.5)
    centre = centre.long()
    centres = torch.stack([centre // (side + 1), centre % (side + 1)], 1)
    low = (centres - half // 2)[:, :, None]
    positions = torch.arange(side, device=images.device)
    hit = (positions >= low) & (positions < low + half)
    return images * ~(hit[:, 0, :, None] & hit[:, 1, None, :])[:, None]


def _stretch(images, scale, axis):
    return warp(images, affine_matrices(images, {(axis, axis): scale}))


def _flip(images, flipped):
    return torch.where(flipped[:, None, None, None] > 0, images.flip(3), images)


# Name → (place, function of images and magnitudes). Stored views refer to positions in this order.
OPERATIONS = {
    **{name: ("bytes", _per_magnitude(function)) for name, function in BYTE_OPERATIONS.items()},
    "brightness": ("view", lambda images, m: images * (1 - m)[:, None, None, None]),
    "contrast": (
        "view",
        lambda images, m: blend(images, grey(images).mean((2, 3), keepdim=True), 1 - m),
    ),
    "saturation": ("view", lambda images, m: blend(images, grey(images), 1 - m)),
    "lighting1": ("view", _lighting(0)),
    "lighting2": ("view", _lighting(1)),
    "lighting3": ("view", _lighting(2)),
    "siamese_brightness": ("normalised", lambda images, m: images + m[:, None, None, None]),
    "siamese_saturation": (
        "normalised",
        lambda images, m: blend(images, images.mean(1, keepdim=True), m),
    ),
    "siamese_contrast": (
        "normalised",
        lambda images, m: blend(images, images.mean((1, 2, 3), keepdim=True), m),
    ),
    "siamese_crop_y": ("normalised", lambda images, pixels: _shift(images, pixels, 2)),
    "siamese_crop_x": ("normalised", lambda images, pixels: _shift(images, pixels, 3)),
    "siamese_cutout": ("normalised", _cutout),
    "siamese_flip": ("normalised", _flip),
    "siamese_scale_x": ("normalised", lambda images, scale: _stretch(images, scale, 0)),
    "siamese_scale_y": ("normalised", lambda images, scale: _stretch(images, scale, 1)),
    "siamese_rotate": ("normalised", lambda images, degrees: warp(images, rotation(degrees))),
}
NAMES = tuple(OPERATIONS)
