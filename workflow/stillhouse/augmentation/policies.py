"""Augmentation policies: operations and magnitudes of each row of the views, as numbers.

The functions of the operations are in `ops`.
"""

import numpy as np

from stillhouse.artifacts.rng import generator
from stillhouse.augmentation.ops import NAMES

MAX_OPERATIONS = 8
# torchvision's RandAugment: magnitudes at strength 30 of the operations with a random sign.
STRONGEST = {
    "ShearX": 0.3,
    "ShearY": 0.3,
    "TranslateX": 150 / 331,
    "TranslateY": 150 / 331,
    "Rotate": 30,
    "Brightness": 0.9,
    "Color": 0.9,
    "Contrast": 0.9,
    "Sharpness": 0.9,
}
RANDAUGMENT = (*STRONGEST, "Identity", "Posterize", "Solarize", "AutoContrast", "Equalize")


def draw(settings, seed, epoch, order, resolution, batch_size, stage):
    """Draw the operations of one epoch's views, in the order of application.

    Parameters
    ----------
    settings : dict
        As for `views.draw`; ``randaugment``, ``jitter``, ``lighting`` and ``siamese`` are used.
    seed, epoch : int
    order : (n,) int64 array
        Row of the distilled set of each view. The draws of a view depend on its row.
    resolution : int
        Side of the distilled images [px].
    batch_size : int
        Rows that share one operation of ``siamese``.
    stage : str

    Returns
    -------
    ops : (n, k) int64
        Positions in `stillhouse.augmentation.ops.NAMES`.
    magnitudes : (n, k) float32
    """

    def draws(policy, width):
        rng = generator(seed, f"{stage}, {policy}", item=epoch)
        return rng.random((len(order), width))[order]

    policies = [(np.zeros((len(order), 0), np.int64), np.zeros((len(order), 0)))]
    if "randaugment" in settings:
        numbers = draws("randaugment", 2 * MAX_OPERATIONS)
        policies.append(randaugment(numbers, settings["randaugment"], resolution))
    if "jitter" in settings:
        policies.append(jitter(draws("jitter", 6), settings["jitter"]))
    if "lighting" in settings:
        policies.append(lighting(draws("lighting", 3), settings["lighting"]))
    if "siamese" in settings:
        batch = np.arange(len(order)) // batch_size
        choices = generator(seed, f"{stage}, siamese choices", item=epoch)
        shared = choices.random((batch[-1] + 1, 4))[batch]
        per_row = settings["siamese"]["per"] == "row"
        numbers = draws("siamese", 3) if per_row else shared[:, 1:]
        groups = settings["siamese"]["operations"]
        policies.append(siamese(shared[:, 0], numbers, groups, resolution))
    ops, magnitudes = (np.concatenate(columns, 1) for columns in zip(*policies, strict=True))
    return ops, magnitudes.astype(np.float32)


def randaugment(draws, settings, resolution):
    """Return (ops, magnitudes), (n, N) each: N operations per row of strength M (of 30).

    Parameters
    ----------
    draws : (n, 2 × MAX_OPERATIONS) float64 in [0, 1)
        For the operations, then for their signs.
    settings : dict
        ``n`` and ``m``.
    resolution : int
        Side of the images [px].

    Notes
    -----
    Cubuk et al. 2020, with the operations and strengths of torchvision's RandAugment, which EDC's
    code calls without arguments (N = 2, M = 9).
    """
    count, strength = settings["n"], settings["m"]
    ops, signs = draws[:, :count], draws[:, MAX_OPERATIONS : MAX_OPERATIONS + count]
    chosen = np.floor(ops * len(RANDAUGMENT)).astype(np.int64)
    magnitudes = np.array([_magnitude(name, strength, resolution) for name in RANDAUGMENT])[chosen]
    signed = chosen < len(STRONGEST)
    numbers = np.array([NAMES.index(name) for name in RANDAUGMENT])[chosen]
    return numbers, np.where(signed & (signs < 0.5), -magnitudes, magnitudes)


def _magnitude(name, strength, resolution):
    """Return the magnitude of an operation at a strength from 0 to 30."""
    if name in ("TranslateX", "TranslateY"):
        return float(int(STRONGEST[name] * resolution * strength / 30))
    if name in STRONGEST:
        return STRONGEST[name] * strength / 30
    if name == "Posterize":
        return 8.0 - round(strength / 7.5)
    return 255 * (1 - strength / 30) if name == "Solarize" else 0.0


def jitter(draws, strength):
    """Return (ops, magnitudes), (n, 3) each: brightness, contrast and saturation in any order.

    Each interpolates by a fraction, uniform in ± `strength`, towards black, the mean grey, and the
    grey image; a negative fraction extrapolates. Six draws per row: order and fractions (Minimax
    misc/utils.py).
    """
    names = np.array([NAMES.index(name) for name in ("brightness", "contrast", "saturation")])
    return names[draws[:, :3].argsort(1, kind="stable")], strength * (2 * draws[:, 3:] - 1)


def lighting(draws, deviation):
    """Return (ops, magnitudes), (n, 3) each: normal shifts along the colour components."""
    from scipy.special import ndtri

    names = [NAMES.index(f"lighting{i}") for i in (1, 2, 3)]
    # A draw of zero would give minus infinity.
    return np.tile(names, (len(draws), 1)), deviation * ndtri(draws.clip(min=2**-53))


def siamese(choices, draws, groups, resolution):
    """Return (ops, magnitudes), (n, 3) each, of differentiable siamese augmentation.

    Parameters
    ----------
    choices : (n,) float64 in [0, 1)
        For the operation; equal within a batch.
    draws : (n, 3) float64 in [0, 1)
    groups : list of str
        Keys of `SIAMESE` to choose from.
    resolution : int
        Side of the images [px].

    Notes
    -----
    DSA (Zhao & Bilen 2021) with the strengths of VICO-UoE/DatasetCondensation utils.py, one
    operation per step (its mode ``S``). That code draws magnitudes per batch in matching steps, and
    per image in the training of tested students.
    """
    picked = np.floor(choices * len(groups)).astype(np.int64)
    ops = np.full(draws.shape, NAMES.index("Identity"))
    magnitudes = np.zeros(draws.shape)
    for number, group in enumerate(groups):
        for column, (name, magnitude) in enumerate(SIAMESE[group].items()):
            rows = picked == number
            ops[rows, column] = NAMES.index(f"siamese_{name}")
            magnitudes[rows, column] = magnitude(draws[rows, column], draws[rows, 1], resolution)
    return ops, magnitudes


def _shift(draw, _, side):
    """Return a shift of at most an eighth of the side in whole pixels."""
    most = int(side / 8 + 0.5)
    return np.floor(draw * (2 * most + 1)) - most


def _centre(draw, other, side):
    """Return the centre of a cutout, see `ops`; its range has one pixel more for even squares."""
    room = side + 1 - int(side / 2 + 0.5) % 2
    return np.floor(draw * room) * (side + 1) + np.floor(other * room)


def _scale(draw, _, side):
    return 1 / 1.2 + draw * (1.2 - 1 / 1.2)


# Groups of siamese augmentation: operations with functions of (draw, second draw, side) that give
# the magnitude.
SIAMESE = {
    "color": {
        "brightness": lambda draw, _, side: draw - 0.5,
        "saturation": lambda draw, _, side: 2 * draw,
        "contrast": lambda draw, _, side: draw + 0.5,
    },
    "crop": {"crop_y": _shift, "crop_x": _shift},
    "cutout": {"cutout": _centre},
    "flip": {"flip": lambda draw, _, side: draw < 0.5},
    "scale": {"scale_x": _scale, "scale_y": _scale},
    "rotate": {"rotate": lambda draw, _, side: 30 * draw - 15},
}
