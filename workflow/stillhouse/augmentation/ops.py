"""Operations of augmentations on whole batches, on the device, each with a magnitude a row.

RandAugment's operations (Cubuk et al. 2020) work on bytes, (n, 3, side, side) float32 of whole
numbers, before the crop; they are those of torchvision's RandAugment, to rounding. Colour jitter
and lighting work on the view, in [0, 255] and beyond, after crop and flip. Those of siamese
augmentation (Zhao & Bilen 2021) work on the normalised view, where zero is the mean colour; they
are differentiable.
"""

import torch
from torch.nn.functional import affine_grid, conv2d, grid_sample

GREY = (0.299, 0.587, 0.114)
# Principal components of ImageNet's colours in [0, 1], a column each, and their eigenvalues
# (AlexNet's lighting noise; Minimax data.py).
COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
EIGENVALUES = (0.2175, 0.0188, 0.0045)


def apply(images, ops, magnitudes, place):
    """Apply what rows have chosen, one column of choices after the other.

    Parameters
    ----------
    images : (n, 3, side, side) float32 tensor
    ops : (n, k) int64 tensor
        Positions in `NAMES`.
    magnitudes : (n, k) float32 tensor
    place : str
        ``bytes``, ``view`` or ``normalised``; operations of another place are passed over.

    Returns
    -------
    (n, 3, side, side) float32
    """
    for column in range(ops.shape[1]):
        for number in ops[:, column].unique().tolist():
            where, operation = OPERATIONS[NAMES[number]]
            if where == place:
                rows = (ops[:, column] == number).nonzero()[:, 0]
                changed = operation(images[rows], magnitudes[rows, column])
                images = images.index_copy(0, rows, changed)
    return images


def warp(images, matrices, mode):
    """Return images seen through affine maps, zero outside.

    Parameters
    ----------
    images : (n, 3, side, side) float32 tensor
    matrices : (n, 2, 3) float32 tensor
        From a place in the result to the place in the image it shows; both go from -1 to 1.
    mode : str
        ``nearest`` or ``bilinear``.
    """
    grid = affine_grid(matrices, images.shape, align_corners=False)
    return grid_sample(images, grid, mode, "zeros", align_corners=False)


def matrices(like, entries):
    """Return maps, (n, 2, 3), that are the identity but for `entries`, {(row, column): (n,)}."""
    found = torch.eye(2, 3, device=like.device).repeat(len(like), 1, 1)
    for (row, column), value in entries.items():
        found[:, row, column] = value
    return found


def rotation(degrees):
    """Return the maps of rotations about the middle, anticlockwise, (n, 2, 3)."""
    angle = torch.deg2rad(degrees)
    cos, sin = angle.cos(), angle.sin()
    return matrices(degrees, {(0, 0): cos, (0, 1): -sin, (1, 0): sin, (1, 1): cos})


def grey(images):
    """Return the luma of images, (n, 1, side, side)."""
    weights = images.new_tensor(GREY)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def blend(images, other, weight):
    """Return weight × images + (1 - weight) × other; weights may lie outside [0, 1]."""
    return torch.lerp(other.expand_as(images), images, weight[:, None, None, None])


def _bytes(values):
    return values.clamp(0, 255).floor()


def _nearest(images, entries):
    return warp(images, matrices(images, entries), "nearest")


def _translate(images, pixels, axis):
    share = 2 * pixels / images.shape[-1]
    return _nearest(images, {(axis, 2): -share})


def _sharpness(images, magnitude):
    kernel = images.new_ones(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    blurred = images.clone()
    blurred[:, :, 1:-1, 1:-1] = conv2d(images, kernel / 13, groups=3).round()
    return _bytes(blend(images, blurred, 1 + magnitude))


def _posterize(images, bits):
    step = 2 ** (8 - bits[:, None, None, None])
    return (images / step).floor() * step


def _solarize(images, threshold):
    return torch.where(images >= threshold[:, None, None, None], 255 - images, images)


def _autocontrast(images, magnitude):
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    stretched = _bytes((images - low) * (255 / (high - low).clamp(min=1)))
    return torch.where(high > low, stretched, images)


def _equalize(images, magnitude):
    """Make the histogram of every channel even, as Pillow does."""
    levels = images.long().flatten(2)
    histogram = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(
        2, levels, torch.ones_like(levels)
    )
    last = levels.amax(2, keepdim=True)
    step = (levels.shape[2] - histogram.gather(2, last)) // 255
    before = histogram.cumsum(2) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    even = table.gather(2, levels).unflatten(2, images.shape[2:]).float()
    return torch.where((step > 0)[..., None], even, images)


def _lighting(component):
    shift = [255 * EIGENVALUES[component] * row[component] for row in COMPONENTS]

    def operation(images, magnitude):
        return images + magnitude[:, None, None, None] * images.new_tensor(shift)[:, None, None]

    return operation


def _shift(images, pixels, axis):
    """Show at every place what lies `pixels` further on along an axis; zero from outside."""
    places = torch.arange(images.shape[-1], device=images.device)
    source = places + pixels.long()[:, None]
    inside = (source >= 0) & (source < len(places))
    shape = (len(images), 1, -1, 1) if axis == 2 else (len(images), 1, 1, -1)
    source = source.clamp(0, len(places) - 1).view(shape).expand_as(images)
    return images.gather(axis, source) * inside.view(shape)


def _cutout(images, place):
    """Blacken half the side around a place, numbered row by row over side + 1 columns."""
    side = images.shape[-1]
    half = int(side / 2 + 0.5)
    centres = place.long()[:, None].expand(-1, 2)
    centres = torch.stack([centres[:, 0] // (side + 1), centres[:, 1] % (side + 1)], 1)
    low = (centres - half // 2)[:, :, None]
    places = torch.arange(side, device=images.device)
    hit = (places >= low) & (places < low + half)
    return images * ~(hit[:, 0, :, None] & hit[:, 1, None, :])[:, None]


def _stretch(images, scale, axis):
    return warp(images, matrices(images, {(axis, axis): scale}), "bilinear")


def _flip(images, wanted):
    return torch.where(wanted[:, None, None, None] > 0, images.flip(3), images)


# Name → (place, function of images and magnitudes).
OPERATIONS = {
    "Identity": ("bytes", lambda images, _: images),
    # Sheared about the upper left corner.
    "ShearX": ("bytes", lambda images, m: _nearest(images, {(0, 1): m, (0, 2): m})),
    "ShearY": ("bytes", lambda images, m: _nearest(images, {(1, 0): m, (1, 2): m})),
    "TranslateX": ("bytes", lambda images, pixels: _translate(images, pixels, 0)),
    "TranslateY": ("bytes", lambda images, pixels: _translate(images, pixels, 1)),
    "Rotate": ("bytes", lambda images, degrees: warp(images, rotation(degrees), "nearest")),
    "Brightness": ("bytes", lambda images, m: _bytes(images * (1 + m)[:, None, None, None])),
    "Color": ("bytes", lambda images, m: _bytes(blend(images, grey(images).floor(), 1 + m))),
    "Contrast": (
        "bytes",
        lambda images, m: _bytes(
            blend(images, grey(images).floor().mean((2, 3), keepdim=True), 1 + m)
        ),
    ),
    "Sharpness": ("bytes", _sharpness),
    "Posterize": ("bytes", _posterize),
    "Solarize": ("bytes", _solarize),
    "AutoContrast": ("bytes", _autocontrast),
    "Equalize": ("bytes", _equalize),
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
    "siamese_rotate": (
        "normalised",
        lambda images, degrees: warp(images, rotation(degrees), "bilinear"),
    ),
}
NAMES = tuple(OPERATIONS)
