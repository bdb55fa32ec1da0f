"""Views: augmented images of a distilled set in one epoch, with parameters that can be stored.

A view of a row is a crop, a flip, optionally a permutation of its patches, augmentation operations,
and a mix with the view of a partner row (FKD, Shen & Xing 2022). The view of epoch e depends on
(seed, e, row).
"""

import hashlib
from dataclasses import dataclass, fields

import numpy as np
import torch

from stillhouse.artifacts.rng import generator
from stillhouse.augmentation import ops, policies
from stillhouse.data.boxes import N_DRAWS, augmentation_boxes
from stillhouse.data.transforms import cut, normalise

MAX_SIDE = 8
# Version of `draw`, raised when it returns other views for the same arguments: label tables that
# store the seed alone depend on it.
GENERATOR = 1


@dataclass(frozen=True)
class Views:
    """The views of one epoch, one per row, in the order of training.

    Arrays or tensors; n rows.

    Parameters
    ----------
    mix : str
        ``none``, ``cutmix`` or ``mixup``.
    index : (n,) int64
        Row of the distilled set.
    box : (n, 4) int64
        Crop: top, left, height, width [px of the distilled image]; black beyond the image.
    flip : (n,) bool
        Mirrored after the crop.
    patch_order : (n, 2f) int64
        Permutation of the columns, then of the rows of patches; (n, 0) for none.
    partner : (n,) int64
        Position in this epoch of the row that is mixed in; -1 for none.
    mix_box : (n, 4) int64
        CutMix: the box filled with the partner [px of the view]; zeros for none.
    mix_weight : (n,) float32
        Weight of the row's own view.
    op : (n, k) int64
        Augmentation operations, positions in `ops.NAMES`; (n, 0) for none.
    magnitude : (n, k) float32
        Magnitudes, in the unit of each operation.
    """

    mix: str
    index: np.ndarray
    box: np.ndarray
    flip: np.ndarray
    patch_order: np.ndarray
    partner: np.ndarray
    mix_box: np.ndarray
    mix_weight: np.ndarray
    op: np.ndarray
    magnitude: np.ndarray

    def to(self, device):
        """Return the views as tensors on a device."""
        arrays = (getattr(self, field.name) for field in fields(self)[1:])
        return Views(self.mix, *(torch.tensor(array).to(device) for array in arrays))

    def checksum(self):
        """Return the SHA-256 over all arrays as hexadecimal text."""
        digest = hashlib.sha256(self.mix.encode())
        for field in fields(self)[1:]:
            array = np.ascontiguousarray(getattr(self, field.name))
            digest.update(f"{field.name} {array.dtype.str} {array.shape}".encode())
            digest.update(array)
        return digest.hexdigest()


def draw(settings, seed, epoch, n_rows, resolution, batch_size, stage="views"):
    """Draw the views of one epoch.

    Parameters
    ----------
    settings : dict
        ``crop`` (smallest and largest area) or ``pad`` (border [px] before a random crop of the
        image's size), ``flip`` (probability), ``patches_per_side`` (1 for no permutation), ``mix``
        (none, cutmix, mixup) and with it ``mix_alpha``, ``mix_per``; ``randaugment``, ``jitter``,
        ``lighting``, ``siamese``, optionally.
    seed, epoch : int
    n_rows : int
        Rows of the distilled set.
    resolution : int
        Side of the distilled images [px].
    batch_size : int
        Rows per training step; partners of ``mix_per: batch`` are in the same batch.
    stage : str
        Stage of the random numbers.

    Returns
    -------
    Views

    Notes
    -----
    Crops as torchvision's RandomResizedCrop. CutMix (Yun et al. 2019) as in RDED's code: the
    partner's box has a uniform centre, sides √(1-λ) of the image, and is clipped; λ ~
    Beta(α, α).
    """
    rng = generator(seed, stage, item=epoch)
    draws = rng.random((n_rows, N_DRAWS + 6 + 2 * MAX_SIDE))
    order = np.argsort(draws[:, 0], kind="stable")
    draws = draws[order]
    mixing = generator(seed, f"{stage}, mixes", item=epoch)
    op, magnitude = policies.draw(settings, seed, epoch, order, resolution, batch_size, stage)
    partner, box, weight = _mixes(settings, draws[:, 2:6], mixing, resolution, batch_size)
    return Views(
        mix=settings["mix"],
        index=order,
        box=augmentation_boxes(draws[:, 6 : 6 + N_DRAWS], resolution, settings),
        flip=draws[:, 1] < settings["flip"],
        patch_order=_patch_order(draws[:, N_DRAWS + 6 :], settings["patches_per_side"]),
        partner=partner,
        mix_box=box,
        mix_weight=weight,
        op=op,
        magnitude=magnitude,
    )


def _patch_order(draws, side):
    """Return permutations of `side` columns and rows of patches, (n, 2 · side); (n, 0) for one."""
    if side == 1:
        return np.zeros((len(draws), 0), np.int64)
    columns_rows = draws[:, : 2 * side].reshape(len(draws), 2, side)
    return columns_rows.argsort(2, kind="stable").reshape(len(draws), -1)


def _mixes(settings, draws, rng, resolution, batch_size):
    """Return (partner, mix box, mix weight) from four draws per row: partner, λ, centre y and x."""
    n_rows = len(draws)
    no_box = np.zeros((n_rows, 4), np.int64)
    if settings["mix"] == "none":
        return np.full(n_rows, -1), no_box, np.ones(n_rows, np.float32)
    if settings["mix_per"] == "row":
        partner, numbers = np.floor(draws[:, 0] * n_rows).astype(np.int64), draws[:, 1:]
    else:
        batch = np.arange(n_rows) // batch_size
        partner = np.lexsort((draws[:, 0], batch))
        numbers = rng.random((batch[-1] + 1, 3))[batch]
    weight = _beta(numbers[:, 0], settings["mix_alpha"])
    if settings["mix"] == "mixup":
        return partner, no_box, weight.astype(np.float32)
    half = np.floor(resolution * np.sqrt(1 - weight)).astype(np.int64)[:, None] // 2
    centre = np.floor(numbers[:, 1:] * resolution).astype(np.int64)
    low, high = (centre - half).clip(0), (centre + half).clip(max=resolution)
    box = np.concatenate([low, high - low], axis=1)
    weight = 1 - box[:, 2] * box[:, 3] / resolution**2
    return partner, box, weight.astype(np.float32)


def _beta(uniform, alpha):
    """Return Beta(α, α) quantiles of uniform numbers."""
    if alpha == 1:
        return uniform
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, uniform)


def render(images, views, start=0, stop=None, prepare=normalise):
    """Return the views of rows start … stop of an epoch, by default of all, as inputs of networks.

    Parameters
    ----------
    images : (n, 3, side, side) uint8 tensor
        The distilled set.
    views : Views
        Of tensors, on the same device.
    start, stop : int, optional
        Positions in the epoch, of a training step.
    prepare : callable
        From pixels in [0, 255] to inputs: affine, since views are mixed before it.

    Returns
    -------
    (stop - start, 3, side, side) float32
        By default normalised by ImageNet's mean and deviation.
    """
    n_rows = len(views.index)
    stop = n_rows if stop is None else min(stop, n_rows)
    rows = slice(start, stop)
    own = _cut(images, views, rows)
    if views.mix == "none":
        return ops.apply(prepare(own), views.op[rows], views.magnitude[rows], "normalised")
    partner = views.partner[rows]
    if start <= partner.min() and partner.max() < stop:
        other = own[partner - start]
    else:
        other = _cut(images, views, partner)
    if views.mix == "mixup":
        return prepare(torch.lerp(other, own, views.mix_weight[rows, None, None, None]))
    inside = _inside(views.mix_box[rows], own.shape[-1])
    return prepare(torch.where(inside[:, None], other, own))


def _cut(images, views, rows):
    """Return the views of rows before mixing and normalisation, in [0, 255] and beyond."""
    order = views.patch_order[rows] if views.patch_order.shape[1] else None
    op, magnitude = views.op[rows], views.magnitude[rows]
    augmented = ops.apply(images[views.index[rows]], op, magnitude, "bytes")
    crops = cut(augmented, views.box[rows], images.shape[-1], views.flip[rows], order)
    return ops.apply(crops, op, magnitude, "view")


def _inside(box, side):
    """Return a mask of the pixels in each box, (n, side, side) bool."""
    position = torch.arange(side, device=box.device)
    inside = (position >= box[:, :2, None]) & (position < (box[:, :2] + box[:, 2:])[..., None])
    return inside[:, 0, :, None] & inside[:, 1, None, :]
