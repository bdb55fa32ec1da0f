"""Sources: labelled image collections with stable class ids, behind one interface.

A source kind is a class with ``images(classes)``, which yields `Image`s in a stable order, and two
functions of the settings alone, so that a plan can be made without reading data: its class ids,
and how many training images its smallest class has. Kinds of image folders are in `folders`, sets
that torchvision loads in `torchvision_sets`.
"""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from stillhouse.errors import StillhouseError
from stillhouse.rng import generator, permutation

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
# torchvision's class → (class ids in the order of its labels, or the name of a published list;
# training images of the smallest; training and test images of the whole set).
TORCHVISION = {
    "CIFAR10": (tuple(CIFAR10.split()), 5000, (50_000, 10_000)),
    "CIFAR100": (tuple(CIFAR100.split()), 500, (50_000, 10_000)),
    "FashionMNIST": (tuple(FASHION.split(",")), 6000, (60_000, 10_000)),
    "ImageNet": ("imagenet1k", 732, (1_281_167, 50_000)),
    "Imagenette": ("imagenette", 858, (9469, 3925)),
    "MNIST": (DIGITS, 5421, (60_000, 10_000)),
    "SVHN": (DIGITS, 4659, (73_257, 26_032)),
}
# Where torchvision unpacks the training and the test split of those that are files.
TORCHVISION_FOLDERS = {
    "ImageNet": ("train", "val"),
    "Imagenette": ("imagenette2/train", "imagenette2/val"),
}


@dataclass(frozen=True)
class Image:
    """One encoded image of a source.

    Parameters
    ----------
    class_id, image_id : str
        Stable names; the image id is unique in the source.
    split : str
        ``train`` or ``test``.
    data : bytes or None
        The encoded file as it is; None where it is kept by reference.
    path : str
        Where it lay in the source, for people; where it lies below the root, if by reference.
    """

    class_id: str
    image_id: str
    split: str
    data: bytes | None
    path: str

    def load(self, root):
        """Return the encoded file, from below `root` if it is kept by reference."""
        return read_file(root, self.path) if self.data is None else self.data


def read_file(root, path):
    """Return the bytes of a file of a source that is kept by reference."""
    try:
        return (Path(root) / path).read_bytes()
    except OSError as error:
        raise StillhouseError(f"{Path(root) / path}: cannot be read ({error.strerror})") from None


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
        listed = TORCHVISION[settings["set"]][0]
        return published_classes(listed) if isinstance(listed, str) else listed
    return DIGITS if settings["kind"] == "digits" else tuple(settings["classes"])


def by_reference(settings):
    """Tell whether images stay where they are; artifacts then hold paths below the root."""
    folders = ("image_folder", "tiny_imagenet")
    return settings["kind"] in folders or settings.get("set") in TORCHVISION_FOLDERS


def n_smallest(settings):
    """Return how many training images the smallest class has before a holdout, if they are right.

    Indexing checks it.
    """
    own = TORCHVISION[settings["set"]][1] if "set" in settings else DIGITS_SMALLEST
    return settings.get("smallest_class", own)


def smallest_class(settings):
    """Return the number of training images of a source's smallest class, from its settings."""
    n = n_smallest(settings)
    return n - n_held_out(n, settings["holdout"])


def n_held_out(n_images, holdout):
    """Return how many of a class's training images a holdout takes."""
    return round(n_images * holdout)


def shaping(name, settings):
    """Return the settings of a source that are part of its address: not where its files lie."""
    left_out = {"classes_per_block", "smallest_class", "root", "download"}
    if settings["kind"] == "parquet":
        left_out |= {"train", "test"}
    if settings.get("on_bad_image") != "skip":
        left_out |= {"on_bad_image"}
    return {"name": name, **{k: v for k, v in settings.items() if k not in left_out}}


def open_source(settings, files, root=None, download=False):
    """Return the source that `settings` describe.

    Parameters
    ----------
    settings : dict
        As `shaping` returns them.
    files : dict of str to list of Path
        For ``parquet``: the files of the splits ``train`` and ``test``.
    root : str, optional
        For kinds that have one: the folder that holds the files.
    download : bool
        For ``torchvision``: whether it may fetch or unpack what is not there.
    """
    from stillhouse.data.sources import image_folder, torchvision_sets

    kind = settings["kind"]
    if kind == "image_folder":
        return image_folder.ImageFolder(settings, root)
    if kind == "tiny_imagenet":
        return image_folder.TinyImageNet(settings, root)
    if kind == "torchvision":
        by = by_reference(settings)
        opened = torchvision_sets.TorchvisionFolder if by else torchvision_sets.TorchvisionSet
        return opened(settings, root, download)
    return Digits() if kind == "digits" else ParquetFiles(settings, files)


class Digits:
    """scikit-learn's copy of the UCI handwritten digits: 1,797 grey images of 8 × 8 pixels.

    There is no official split in this copy: two thirds of each class, drawn once and for all, are
    the training split. Grey levels 0 to 16 become 0 to 255.
    """

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, class by class."""
        from PIL import Image as Pillow
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        for class_id in (c for c in DIGITS if c in wanted):
            rows = np.flatnonzero(digits.target == int(class_id))
            order = permutation(generator(0, "digits split", class_id), len(rows))
            trains = set(rows[order[: round(len(rows) * 2 / 3)]].tolist())
            for row in rows.tolist():
                buffer = io.BytesIO()
                Pillow.fromarray(pixels[row]).save(buffer, "PNG")
                split = "train" if row in trains else "test"
                name = f"digits-{row:04d}"
                yield Image(class_id, name, split, buffer.getvalue(), f"{name}.png")


class ParquetFiles:
    """Parquet files in Hugging Face layout: an image column and a label column.

    Images are struct{bytes, path} or plain bytes; labels are positions in the source's classes,
    or class ids.
    """

    def __init__(self, settings, files):
        self.settings = settings
        self.files = files
        self.position = {class_id: i for i, class_id in enumerate(settings["classes"])}

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, in the order of the files."""
        for split in ("train", "test"):
            row = 0
            for path in self.files[split]:
                parquet = self._open(path)
                for group in range(parquet.num_row_groups):
                    yield from self._group(parquet, path, group, split, row, wanted)
                    row += parquet.metadata.row_group(group).num_rows

    def _group(self, parquet, path, group, split, first, wanted):
        column, labels = self.settings["image_column"], self.settings["label_column"]
        names = self._names(path, _column(parquet, path, group, labels))
        rows = [i for i, name in enumerate(names) if name in wanted]
        if not rows:
            return
        images = _column(parquet, path, group, column)
        for row in rows:
            value = images[row].as_py()
            data = value["bytes"] if isinstance(value, dict) else value
            if data in (None, b"") and self.settings.get("on_bad_image") == "skip":
                data = b""  # for the index to count
            elif not isinstance(data, bytes) or not data:
                raise StillhouseError(
                    f"{path}: row {first + row} has no bytes in column {column!r}; images that are "
                    "kept elsewhere cannot be read"
                )
            name = f"{split}-{first + row:07d}"
            inner = (value.get("path") if isinstance(value, dict) else None) or name
            yield Image(names[row], name, split, data, inner)

    def _names(self, path, labels):
        """Return the class ids of a label column, checked against the source's classes."""
        known = self.settings["classes"]
        names = [
            known[v] if isinstance(v, int) and 0 <= v < len(known) else v
            for v in labels.to_pylist()
        ]
        strange = [name for name in names if name not in self.position]
        if strange:
            raise StillhouseError(
                f"{path}: label {strange[0]!r} is none of the source's {len(known)} classes; "
                f"list them all, in order, under sources.{self.settings['name']}.classes"
            )
        return names

    def _open(self, path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        key = f"sources.{self.settings['name']}"
        try:
            parquet = pq.ParquetFile(path)
        except FileNotFoundError:
            raise StillhouseError(f"{path}: is not there; it is named under {key}") from None
        except pa.ArrowInvalid:
            raise StillhouseError(
                f"{path}: is not a Parquet file; it is named under {key}"
            ) from None
        for setting in ("image_column", "label_column"):
            name = self.settings[setting]
            if name not in parquet.schema_arrow.names:
                there = ", ".join(parquet.schema_arrow.names)
                raise StillhouseError(
                    f"{path}: has no column {name!r}, only {there}; name the right one under "
                    f"{key}.{setting}"
                )
        self._check_names(path, parquet.schema_arrow)
        return parquet

    def _check_names(self, path, schema):
        """Compare the class order with the one that Hugging Face's metadata give, if they do."""
        import json

        kept = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = kept.get("info", {}).get("features", {}).get(self.settings["label_column"], {})
        names = feature.get("names")
        if isinstance(names, dict):
            names = list(names.values())
        if names and names != self.settings["classes"]:
            raise StillhouseError(
                f"{path}: its own metadata give the class order {', '.join(names)}; "
                f"sources.{self.settings['name']}.classes says otherwise"
            )


def _column(parquet, path, group, name):
    """Read one column of a row group."""
    import pyarrow as pa

    try:
        return parquet.read_row_group(group, [name])[name]
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StillhouseError(
            f"{path}: column {name!r} of row group {group} cannot be read ({reason}); fetch the "
            "file again"
        ) from None
