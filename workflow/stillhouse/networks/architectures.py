"""What an architecture's name alone tells: whether a library has it, its weights, its images.

Parsing a config must not import torchvision or timm, which takes seconds. Their model files are
read as text instead, and only for names that ask for it: a hundredth of a second.
"""

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from stillhouse.errors import StillhouseError

# The smallest side at which a network's last maps are not empty, and, under instance
# normalisation, not of a single pixel, which it would set to zero [px].
SMALLEST = {"alexnet_small": 8, "vgg11_small": 32, "resnetap10": 16, "resnet18_instance": 33}


def split(arch):
    """Return (library, name) of an architecture; the library of our own is empty."""
    library, _, name = arch.rpartition("/")
    return library, name


@cache
def _text(library):
    """Return the source of all classifiers of a library."""
    return "\n".join(
        path.read_text(encoding="utf-8")
        for path in sorted((_folder(library) / "models").glob("*.py"))
    )


def _folder(library):
    found = find_spec(library)
    if found is None:
        raise StillhouseError(f"{library} is not installed; `make` installs all that is needed")
    return Path(found.origin).parent


@cache
def names(library):
    """Return the names of a library's classifiers, as their definitions register them."""
    pattern = r"^@register_model(?:\(\))?\n(?:@.*\n)*?def (\w+)\("
    return frozenset(re.findall(pattern, _text(library), re.M))


@cache
def weights(arch):
    """Return the names of the pretrained weights of a library's architecture.

    Members of the enumeration in torchvision (without ``DEFAULT``, which other versions give to
    other weights); tags in timm.
    """
    library, name = split(arch)
    if library == "timm":
        return frozenset(re.findall(rf"""['"]{name}\.([\w-]+)['"]""", _text(library)))
    classes = r"^class (\w+)_Weights\(WeightsEnum\):\n((?:    .*\n|\n)+)"
    bodies = {found.lower(): body for found, body in re.findall(classes, _text(library), re.M)}
    return frozenset(re.findall(r"^    (\w+) = Weights\(", bodies.get(name, ""), re.M))


@cache
def imagenet():
    """Return the WordNet ids of ImageNet-1K's classes in the order of pretrained outputs."""
    path = _folder("timm") / "data" / "_info" / "imagenet_synsets.txt"
    return tuple(path.read_text(encoding="utf-8").split())


def check_name(key, arch):
    """Refuse the name of an architecture that its library does not have.

    Parameters
    ----------
    key : str
        Where the config says it, for the message.
    arch : str
    """
    library, name = split(arch)
    if library:
        _check_among(key, arch, name, names(library), f"the classifiers of {library}")


def check_weights(key, arch, name):
    """Refuse pretrained weights that an architecture's library does not have."""
    if not split(arch)[0]:
        raise StillhouseError(
            f"{key}: is {name!r}, but {arch!r} is in no library; should be file and sha256, or the "
            "teacher's arch torchvision/… or timm/…"
        )
    _check_among(key, name, name, weights(arch), f"the weights of {arch}")


def _check_among(key, shown, name, known, title):
    if name not in known:
        near = difflib.get_close_matches(name, sorted(known), 3, 0.4)
        hint = f"near are {', '.join(near)}" if near else f"there are {len(known)}"
        raise StillhouseError(f"{key}: {shown!r} is not among {title}; {hint}")


def check_classes(key, class_ids):
    """Refuse ImageNet's pretrained weights for classes that are not ImageNet's."""
    strange = [class_id for class_id in class_ids if class_id not in imagenet()]
    if strange:
        raise StillhouseError(
            f"{key}: knows the 1000 classes of ImageNet-1K, not {strange[0]!r}; class ids should "
            f"be WordNet ids such as {imagenet()[0]!r}"
        )


def check_resolution(key, arch, resolution):
    """Refuse images that, by its name alone, an architecture cannot take.

    What else a library's network cannot take shows when its job builds it.

    Parameters
    ----------
    key : str
        Where the config says it, for the message.
    arch : str
    resolution : int
        Side of the images [px].
    """
    depth = arch.removeprefix("convnet")
    if depth.isdigit() and resolution < 2 ** int(depth):
        raise StillhouseError(
            f"{key}: is {arch!r}, which halves {resolution} px {depth} times; "
            f"at most convnet{resolution.bit_length() - 1} fits"
        )
    if resolution < SMALLEST.get(arch, 1):
        raise StillhouseError(
            f"{key}: is {arch!r}, which wants at least {SMALLEST[arch]} px; the dataset has "
            f"{resolution} px"
        )
    patch = re.fullmatch(r"vit_patch(\d+)_512x10|torchvision/vit_\w_(\d+)", arch)
    side = int(patch[1] or patch[2]) if patch else 1
    if resolution % side:
        raise StillhouseError(
            f"{key}: is {arch!r}, whose patches of {side} px do not divide the dataset's "
            f"{resolution} px"
        )
