"""Facts about sources that follow from their settings alone, without reading data.

Class ids, the size of the smallest class, and the settings that are part of an address. The
Snakefile imports this module: it imports no heavy packages.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

PUBLISHED = Path(__file__).parents[3] / "published" / "classes"

DIGITS = tuple("0123456789")
DIGITS_SMALLEST = 116
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"


class TorchvisionFacts(NamedTuple):
    """Published facts about a data set that torchvision loads.

    Parameters
    ----------
    classes : tuple of str, or str
        Class ids in the order of its labels, or the name of a published class list.
    smallest_class : int
        Training images of the smallest class.
    images : (int, int)
        Training and test images of the data set.
    """

    classes: tuple | str
    smallest_class: int
    images: tuple


TORCHVISION = {
    "CIFAR10": TorchvisionFacts(tuple(CIFAR10.split()), 5000, (50_000, 10_000)),
    "CIFAR100": TorchvisionFacts(tuple(CIFAR100.split()), 500, (50_000, 10_000)),
    "FashionMNIST": TorchvisionFacts(tuple(FASHION.split(",")), 6000, (60_000, 10_000)),
    "ImageNet": TorchvisionFacts("imagenet1k", 732, (1_281_167, 50_000)),
    "Imagenette": TorchvisionFacts("imagenette", 858, (9469, 3925)),
    "MNIST": TorchvisionFacts(DIGITS, 5421, (60_000, 10_000)),
    "SVHN": TorchvisionFacts(DIGITS, 4659, (73_257, 26_032)),
}
# Folders of the training and the test split below the root, for data sets of image files.
TORCHVISION_FOLDERS = {
    "ImageNet": ("train", "val"),
    "Imagenette": ("imagenette2/train", "imagenette2/val"),
}


@cache
def published_classes(name):
    """Return a published list of class ids, in its order."""
    lines = (PUBLISHED / f"{name}.txt").read_text().splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


@cache
def published_names():
    """Return the names of the published lists of class ids."""
    return sorted(path.stem for path in PUBLISHED.glob("*.txt"))


def classes(settings):
    """Return a source's class ids in its own order, from its settings alone."""
    if settings["kind"] == "torchvision":
        listed = TORCHVISION[settings["set"]].classes
        return published_classes(listed) if isinstance(listed, str) else listed
    return DIGITS if settings["kind"] == "digits" else tuple(settings["classes"])


def by_reference(settings):
    """Return whether artifacts hold paths below the root in place of encoded images."""
    folders = ("image_folder", "tiny_imagenet")
    return settings["kind"] in folders or settings.get("set") in TORCHVISION_FOLDERS


def roots(sources):
    """Return {source: root folder} of the sources of a config that have one."""
    return {name: source["root"] for name, source in sources.items() if "root" in source}


def n_smallest(settings):
    """Return the training images of the smallest class before a holdout; the index checks it."""
    if "set" in settings:
        published = TORCHVISION[settings["set"]].smallest_class
    else:
        published = DIGITS_SMALLEST
    return settings.get("smallest_class", published)


def smallest_class(settings):
    """Return the training images of a source's smallest class after the holdout."""
    n = n_smallest(settings)
    return n - n_held_out(n, settings["holdout"])


def n_held_out(n_images, holdout):
    """Return the number of held-out images of a class with `n_images` training images."""
    return round(n_images * holdout)


def shaping(name, settings):
    """Return the settings of a source that are part of its address: not the location of files."""
    excluded = {"classes_per_block", "smallest_class", "root", "download", "on_leak", "license"}
    if settings["kind"] == "parquet":
        excluded |= {"train", "test"}
    return {"name": name, **{k: v for k, v in settings.items() if k not in excluded}}
