"""Sets made elsewhere in tensors: .npz, safetensors, and the .pt files of DC, DM, MTT and others.

DC and DM (VICO-UoE/DatasetCondensation at 53f63a6, main.py) save ``res_*.pt``, a dict whose
``data`` has [images, labels] per run; MTT (GeorgeCazenavette/mtt-distillation at 50dccea,
distill.py) ``images_best.pt`` and ``labels_best.pt``; DATM (NUS-HPC-AI-Lab/DD-Ranking at e5a13c2,
DATM/distill/DATM.py) the same with logits as labels, and ``lr_best.pt``; DD-Ranking's README loads
``images.pt``, ``labels.pt`` and ``lr.pt``. Images are normalised as the dataset is.
"""

import zipfile

import numpy as np

from stillhouse.artifacts import foreign_files
from stillhouse.data.normalisation import PUBLISHED
from stillhouse.errors import StillhouseError, one_line
from stillhouse.methods.given.sets import GivenSet, positions, soft_labels

SAVE = 'safetensors.torch.save_file({{"images": …, "labels": …}}, "{name}.safetensors")'


def from_tensors(files, classes, settings):
    """Return the `GivenSet` of files of tensors.

    Parameters
    ----------
    files : stillhouse.methods.given.files.Files
    classes : list of str
    settings : dict
        Of the distilled set: ``normalisation``, ``dataset_normalisation``, ``run``, all optional.
    """
    place = str(files.paths[0] if len(files.names) == 1 else files.root)
    arrays = READERS[files.layout](files.paths, settings.get("run", 0))
    for name in ("images", "labels"):
        if name not in arrays:
            raise StillhouseError(
                f"{place}: missing array {name!r}, has {one_line(', '.join(sorted(arrays))[:90])}; "
                "store the set under images and labels"
            )
    images = _pixels(place, arrays, _normalisation(place, files.layout, arrays, settings))
    labels, soft, kind = arrays["labels"], None, None
    if labels.ndim == 2:
        soft, kind, labels = soft_labels(place, labels, classes, arrays.get("classes"))
    else:
        labels = positions(place, labels, classes)
    if labels.shape != (len(images),):
        raise StillhouseError(
            f"{place}: labels: shape {labels.shape} for {len(images)} images; must be one per image"
        )
    return GivenSet(place, images, labels, soft, kind, _rate(place, arrays))


def _npz(paths, run):
    path = paths[0]
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise errors of any type
        what = foreign_files.placeholder_file(path) or f"({one_line(error)}); copy it again"
        if "allow_pickle" in str(error):
            what = "with pickled objects, which are not read; store plain arrays"
        raise StillhouseError(f"{path}: not a readable .npz file {what}") from None


def _safetensors(paths, run):
    from safetensors.numpy import load_file

    try:
        return load_file(paths[0])
    except MemoryError:
        raise
    except Exception as error:  # damaged files, and types that NumPy lacks
        what = foreign_files.placeholder_file(paths[0]) or f"({one_line(error)}); copy it again"
        raise StillhouseError(f"{paths[0]}: not a readable safetensors file {what}") from None


def _pairs(paths, run):
    """Return the arrays of images, labels and, if there is one, learning rate."""
    names = ("images", "labels", "learning_rate")
    return {n: _array(path, _load(path)) for n, path in zip(names, paths, strict=False)}


def _results(paths, run):
    """Return the arrays of one run of DC's or DM's results."""
    path, content = paths[0], _load(paths[0])
    runs = content.get("data") if isinstance(content, dict) else None
    if not isinstance(runs, list | tuple) or not runs:
        raise StillhouseError(
            f"{path}: must be a dict with data, a list of [images, labels] per run, as DC and DM "
            "save it; for images and labels in two files, set folder"
        )
    if run >= len(runs):
        raise StillhouseError(
            f"{path}: has {len(runs)} runs; lower run, {run}, which counts from 0"
        )
    if not isinstance(runs[run], list | tuple) or len(runs[run]) != 2:
        raise StillhouseError(f"{path}: data: must be [images, labels] per run; store it so")
    return {n: _array(path, one) for n, one in zip(("images", "labels"), runs[run], strict=True)}


READERS = {"npz": _npz, "safetensors": _safetensors, "tensors": _pairs, "results": _results}


def _load(path):
    from stillhouse.networks.foreign_weights import load_checkpoint

    return load_checkpoint(path, SAVE)


def _array(path, tensor):
    """Return a tensor of a PyTorch file as an array."""
    import torch

    if isinstance(tensor, float | int):
        return np.array(tensor)
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
        raise StillhouseError(
            f"{path}: holds {type(tensor).__name__.strip('_').lower()}; must be a tensor"
        )
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def _normalisation(place, layout, arrays, settings):
    """Return (mean, standard deviation) of float images, None if they are unknown."""
    if {"mean", "std"} & arrays.keys():
        pair = [np.asarray(arrays.get(name, ())).reshape(-1) for name in ("mean", "std")]
        if any(part.shape != (3,) or part.dtype.kind != "f" for part in pair):
            raise StillhouseError(f"{place}: mean and std: must be three numbers each, as floats")
        return pair
    if "normalisation" in settings:
        return settings["normalisation"]["mean"], settings["normalisation"]["std"]
    if layout in ("tensors", "results"):
        return settings.get("dataset_normalisation", PUBLISHED["imagenet"])
    return None


def _pixels(place, arrays, normalisation):
    """Return images as (n, 3, height, width) uint8, from any order of axes and any range."""
    images = arrays["images"]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise StillhouseError(
            f"{place}: images: shape {arrays['images'].shape}; must be (n, 3, height, width) or "
            "(n, height, width, 3), with one channel for grey levels"
        )
    images = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise StillhouseError(f"{place}: images: {images.dtype}; must be uint8 or floats")
    if normalisation is None:
        raise StillhouseError(
            f"{place}: images: {images.dtype} without mean and std; store them in the file, or set "
            "the method's normalisation: mean: [0, 0, 0], std: [1, 1, 1] for pixels from 0 to 1"
        )
    if not np.isfinite(images).all():
        raise StillhouseError(f"{place}: images: not all pixels are finite; store others")
    mean, std = (np.asarray(part, np.float32)[:, None, None] for part in normalisation)
    pixels = (images.astype(np.float32) * std + mean) * 255
    outside = np.mean((pixels < -1) | (pixels > 256))
    print(f"{place}: {outside:.1%} of the pixels are outside of 0 to 255 and clipped", flush=True)
    return pixels.round().clip(0, 255).astype(np.uint8)


def _rate(place, arrays):
    """Return the learning rate, None if there is none."""
    if "learning_rate" not in arrays:
        return None
    rate = np.asarray(arrays["learning_rate"])
    if rate.size != 1 or rate.dtype.kind not in "fiu":
        raise StillhouseError(f"{place}: learning_rate: must be one number, not {rate.shape}")
    return float(rate.reshape(()))
