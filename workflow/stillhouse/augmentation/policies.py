"""Augmentations as numbers that can be stored: which operation, how strong, for each row of a view.

What the operations do is in `operations`.
"""

import numpy as np

from stillhouse.augmentation.ops import NAMES
from stillhouse.rng import generator

MAX_OPERATIONS = 8
# torchvision's RandAugment: strongest of each, on a scale of 30; a sign is drawn for the first.
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
    """Draw the operations of one epoch's views, in the order in which they are applied.

    Parameters
    ----------
    settings : dict
        As for `views.draw`; here ``randaugment``, ``jitter``, ``lighting`` and
        ``siamese`` count.
    seed, epoch : int
    order : (n,) int64 array
        Row of the distilled set that each view shows. A row's draws depend on the row.
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
    draws = lambda what, width: generator(seed, f"{stage}, {what}", item=epoch).random(  # noqa: E731
        (len(order), width)
    )[order]
    found = [(np.zeros((len(order), 0), np.int64), np.zeros((len(order), 0)))]
    if "randaugment" in settings:
        numbers = draws("randaugment", 2 * MAX_OPERATIONS)
        found.append(randaugment(numbers, settings["randaugment"], resolution))
    if "jitter" in settings:
        found.append(jitter(draws("jitter", 6), settings["jitter"]))
    if "lighting" in settings:
        found.append(lighting(draws("lighting", 3), settings["lighting"]))
    if "siamese" in settings:
        batch = np.arange(len(order)) // batch_size
        choices = generator(seed, f"{stage}, siamese choices", item=epoch)
        shared = choices.random((batch[-1] + 1, 4))[batch]
        own = settings["siamese"]["per"] == "row"
        numbers = draws("siamese", 3) if own else shared[:, 1:]
        chosen = settings["siamese"]["operations"]
        found.append(siamese(shared[:, 0], numbers, chosen, resolution))
    ops, magnitudes = (np.concatenate(parts, 1) for parts in zip(*found, strict=True))
    return ops, magnitudes.astype(np.float32)


def randaugment(draws, settings, resolution):
    """Return (ops, magnitudes), (n, N) each: N operations a row, all of strength M (of 30).

    Parameters
    ----------
    draws : (n, 2 × MAX_OPERATIONS) float64 in [0, 1)
        Operation and sign of each.
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

    Each goes by a share, uniform in ± `strength`, towards black, the mean grey, and grey; beyond
    the image where it is negative. From six draws a row: order and shares (Minimax misc/utils.py).
    """
    names = np.array([NAMES.index(name) for name in ("brightness", "contrast", "saturation")])
    return names[draws[:, :3].argsort(1, kind="stable")], strength * (2 * draws[:, 3:] - 1)


def lighting(draws, deviation):
    """Return (ops, magnitudes), (n, 3) each: normal shifts along the colours' components."""
    from scipy.special import ndtri

    names = [NAMES.index(f"lighting{i}") for i in (1, 2, 3)]
    # A draw of exactly zero would be minus infinity.
    return np.tile(names, (len(draws), 1)), deviation * ndtri(draws.clip(min=2**-53))


def siamese(choices, draws, chosen, resolution):
    """Return (ops, magnitudes), (n, 3) each, of differentiable siamese augmentation.

    Parameters
    ----------
    choices : (n,) float64 in [0, 1)
        Which of the operations; the same in a batch.
    draws : (n, 3) float64 in [0, 1)
    chosen : list of str
        Operations to choose from, of `SIAMESE`.
    resolution : int
        Side of the images [px].

    Notes
    -----
    DSA (Zhao & Bilen 2021) with the strengths of VICO-UoE/DatasetCondensation utils.py, one
    operation a step (its mode ``S``). There a matching step has one set of numbers for the batch;
    the training of a student that is tested has a set for every image.
    """
    picked = np.floor(choices * len(chosen)).astype(np.int64)
    ops = np.full(draws.shape, NAMES.index("Identity"))
    magnitudes = np.zeros(draws.shape)
    for number, group in enumerate(chosen):
        for column, (name, magnitude) in enumerate(SIAMESE[group].items()):
            rows = picked == number
            ops[rows, column] = NAMES.index(f"siamese_{name}")
            magnitudes[rows, column] = magnitude(draws[rows, column], draws[rows, 1], resolution)
    return ops, magnitudes


def _moved(draw, _, side):
    """Return whole pixels of a shift by up to an eighth of the side."""
    most = int(side / 8 + 0.5)
    return np.floor(draw * (2 * most + 1)) - most


def _place(draw, other, side):
    """Return the place of a cutout; see `operations`. Even boxes may lie one pixel further."""
    room = side + 1 - int(side / 2 + 0.5) % 2
    return np.floor(draw * room) * (side + 1) + np.floor(other * room)


def _scale(draw, _, side):
    return 1 / 1.2 + draw * (1.2 - 1 / 1.2)


# Operations of siamese augmentation: their parts, from (draw, second draw, side) to magnitudes.
SIAMESE = {
    "color": {
        "brightness": lambda draw, _, side: draw - 0.5,
        "saturation": lambda draw, _, side: 2 * draw,
        "contrast": lambda draw, _, side: draw + 0.5,
    },
    "crop": {"crop_y": _moved, "crop_x": _moved},
    "cutout": {"cutout": _place},
    "flip": {"flip": lambda draw, _, side: draw < 0.5},
    "scale": {"scale_x": _scale, "scale_y": _scale},
    "rotate": {"rotate": lambda draw, _, side: 30 * draw - 15},
}
