"""Facts about an architecture that follow from its name: library, weights, supported images.

The check of a config must not import torchvision or timm, which takes seconds. Their names are
listed in `architecture_names.txt`, which docs/architecture_names.py writes.
"""

import difflib
import re
from functools import cache
from pathlib import Path

from stillhouse.data.sources.catalogue import published_classes
from stillhouse.errors import StillhouseError

# A line per architecture of a library: its name, `batch` if it has batch norms, or else `-`, the
# names of its pretrained weights.
NAMES = Path(__file__).with_name("architecture_names.txt")
# The smallest side at which the last feature maps of a network are not empty [px]. With instance
# normalisation they need more than one pixel, which it would set to zero.
SMALLEST = {"alexnet_small": 8, "vgg11_small": 32, "resnetap10": 16, "resnet18_instance": 33}


# The largest side at which the smallest input of a batch norm is one pixel [px]. Of the libraries'
# classifiers, 32 px, which nearly all of them reduce to one pixel.
SINGLE_VALUES = {
    "resnet18_modified": 8,
    "resnet101_modified": 8,
    "resnetap10": 15,
    "wrn16_2": 4,
    "mobilenetv2_small": 16,
    "shufflenetv2_small": 8,
    "torchvision": 32,
    "timm": 32,
}

# Own architectures without batch normalisation for any settings.
WITHOUT_BATCHNORM = {"alexnet_small", "resnet18_instance", "vit_patch16_512x10"}


def split(arch):
    """Return (library, name) of an architecture; the library of own architectures is empty."""
    library, _, name = arch.rpartition("/")
    return library, name


def has_batchnorm(network):
    """Return whether a network has running statistics; assumed for unlisted ones of libraries."""
    library, name = split(network["arch"])
    if library:
        norm, _ = listed().get(network["arch"], ("batch", ()))
        return norm == "batch"
    normalised = network.get("norm", "batch") == "batch"
    return normalised and name not in WITHOUT_BATCHNORM


@cache
def listed():
    """Return {architecture: (norm, names of its weights)} of all libraries."""
    lines = (line.split() for line in NAMES.read_text().splitlines() if not line.startswith("#"))
    return {arch: (norm, frozenset(weights)) for arch, norm, *weights in lines}


@cache
def names(library):
    """Return the names of a library's classifiers."""
    return frozenset(name for own, name in map(split, listed()) if own == library)


def weights(arch):
    """Return the names of the pretrained weights of a library's architecture.

    Members of the enumeration in torchvision (without ``DEFAULT``, whose meaning depends on the
    version); tags in timm.
    """
    _, names = listed().get(arch, ("batch", frozenset()))
    return names


def imagenet():
    """Return the WordNet ids of ImageNet-1K's classes in the order of pretrained outputs."""
    return published_classes("imagenet1k")


def check_name(key, arch):
    """Raise a `StillhouseError` for an architecture that is not in its library.

    Parameters
    ----------
    key : str
        Config key, for the message.
    arch : str
    """
    library, name = split(arch)
    if library:
        _check_known(key, f"classifier of {library}", name, names(library))


def check_weights(key, arch, name):
    """Raise a `StillhouseError` for pretrained weights that an architecture's library lacks."""
    if not split(arch)[0]:
        raise StillhouseError(
            f"{key}: {name!r} conflicts with arch {arch!r}, which is in no library; use file and "
            "sha256, or an arch torchvision/… or timm/…"
        )
    _check_known(key, f"weights of {arch}", name, weights(arch))


def _check_known(key, kind, name, known):
    if name not in known:
        similar = difflib.get_close_matches(name, sorted(known), 3, 0.4)
        if similar:
            hint = f"similar are {', '.join(similar)}"
        elif 0 < len(known) <= 5:
            hint = f"must be one of {', '.join(sorted(known))}"
        else:
            hint = f"{len(known)} are available"
        raise StillhouseError(f"{key}: unknown {kind}: {name!r}; {hint}")


def check_classes(key, class_ids):
    """Raise a `StillhouseError` for ImageNet weights with classes not in ImageNet-1K."""
    unknown = [class_id for class_id in class_ids if class_id not in imagenet()]
    if unknown:
        raise StillhouseError(
            f"{key}: unknown class {unknown[0]!r}; class ids must be WordNet ids of ImageNet-1K's "
            f"1000 classes, such as {imagenet()[0]!r}"
        )


def check_batch_size(key, network, resolution, batch_size):
    """Raise a `StillhouseError` for steps of one image that batch normalisation cannot normalise.

    Parameters
    ----------
    key : str
        Config key of the batch size, for the message.
    network : dict
        ``arch`` and ``norm``.
    resolution : int
        Side of the images [px].
    batch_size : int or str
    """
    arch = network["arch"]
    library, _ = split(arch)
    largest = SINGLE_VALUES.get(library or arch, 0)
    if batch_size == 1 and has_batchnorm(network) and resolution <= largest:
        raise StillhouseError(
            f"{key}: 1 conflicts with {arch!r}, whose batch norms have maps of 1 × 1 at "
            f"{resolution} px; must be at least 2"
        )


def check_resolution(key, arch, resolution):
    """Raise a `StillhouseError` for a resolution that an architecture does not support.

    Only limits that follow from the name are checked. Others raise when the network is built.

    Parameters
    ----------
    key : str
        Config key, for the message.
    arch : str
    resolution : int
        Side of the images [px].
    """
    depth = arch.removeprefix("convnet")
    if depth.isdigit() and resolution < 2 ** int(depth):
        raise StillhouseError(
            f"{key}: {arch!r} conflicts with {resolution} px, which it halves {depth} times; "
            f"must be at most convnet{resolution.bit_length() - 1}"
        )
    if resolution < SMALLEST.get(arch, 1):
        raise StillhouseError(
            f"{key}: {arch!r} conflicts with the dataset's {resolution} px; must be at least "
            f"{SMALLEST[arch]} px"
        )
    patch = re.fullmatch(r"vit_patch(\d+)_512x10|torchvision/vit_\w_(\d+)", arch)
    side = int(patch[1] or patch[2]) if patch else 1
    if resolution % side:
        raise StillhouseError(
            f"{key}: {arch!r} conflicts with the dataset's {resolution} px, which its patches of "
            f"{side} px do not divide"
        )
