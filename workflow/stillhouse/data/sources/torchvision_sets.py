"""Sources loaded by torchvision: arrays, encoded as PNG, and folders of image files."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np

from stillhouse.artifacts.locks import lock
from stillhouse.data.sources.base import Image
from stillhouse.data.sources.catalogue import TORCHVISION_FOLDERS, classes
from stillhouse.data.sources.image_folder import ImageFolder
from stillhouse.errors import StillhouseError, one_line

# Files below the root that torchvision reads or unpacks.
FILES = {
    "CIFAR10": ("cifar-10-batches-py",),
    "CIFAR100": ("cifar-100-python",),
    "FashionMNIST": ("FashionMNIST/raw",),
    "ImageNet": (
        "ILSVRC2012_devkit_t12.tar.gz",
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        "meta.bin",
    ),
    "Imagenette": ("imagenette2.tgz",),
    "MNIST": ("MNIST/raw",),
    "SVHN": ("train_32x32.mat", "test_32x32.mat"),
}


class TorchvisionSet:
    """A data set that torchvision loads as arrays and whose files its loader checks.

    CIFAR's files are pickles; torchvision first compares their MD5 with the published ones.

    Parameters
    ----------
    settings : dict
        ``name``, ``set`` (torchvision's class).
    root : str
        The ``root`` argument of torchvision.
    download : bool
        Whether torchvision may download missing files.
    """

    def __init__(self, settings, root, download=False):
        self.settings = settings
        self.classes = classes(settings)
        self.root = root
        self.download = download

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, in torchvision's order."""
        for split in ("train", "test"):
            data = self._load(split)
            labels = np.asarray(data.targets if hasattr(data, "targets") else data.labels)
            if len(labels) != len(data.data):
                raise StillhouseError(
                    f"{self.root}: {split} split: {len(data.data)} images conflict with "
                    f"{len(labels)} labels; {remedy(self.settings, self.root, split)}"
                )
            names = self._names(labels.tolist(), split)
            for row, class_id in enumerate(names):
                if class_id in wanted:
                    buffer = io.BytesIO()
                    data[row][0].save(buffer, "PNG")
                    name = f"{split}-{row:07d}"
                    yield Image(class_id, name, split, buffer.getvalue(), f"{name}.png")

    def _load(self, split):
        name = self.settings["set"]
        selection = {"split": split} if name == "SVHN" else {"train": split == "train"}
        with _one_line_errors(self.settings, self.root, self.download):
            data = _loader(name)(self.root, download=self.download, **selection)
        self._check_names(getattr(data, "classes", None))
        return data

    def _check_names(self, names):
        """Compare the class ids with the class names in CIFAR's own files."""
        if self.settings["set"].startswith("CIFAR") and tuple(names) != self.classes:
            raise StillhouseError(
                f"{self.root}: invalid class names {', '.join(names)[:60]}…; those of "
                f"{self.settings['set']} must be {', '.join(self.classes)[:60]}…"
            )

    def _names(self, labels, split):
        invalid = [label for label in labels if not 0 <= label < len(self.classes)]
        if invalid:
            raise StillhouseError(
                f"{self.root}: {split} split: invalid label {invalid[0]}; "
                f"{self.settings['set']} has {len(self.classes)} classes"
            )
        return [self.classes[label] for label in labels]


class TorchvisionFolder(ImageFolder):
    """A data set that torchvision unpacks into image files, which are read in place.

    Parameters
    ----------
    settings, root, download
        See `TorchvisionSet`; without `download`, nothing is unpacked either.
    """

    def __init__(self, settings, root, download=False):
        train, test = TORCHVISION_FOLDERS[settings["set"]]
        layout = {"classes": classes(settings), "train": train, "test": test}
        super().__init__({**settings, **layout}, root)
        self.download = download

    def images(self, wanted):
        """Yield the images of the classes in `wanted`; unpack missing splits first."""
        if missing := self._missing_splits():
            if not self.download:
                raise StillhouseError(
                    f"{self.root}: missing folder {missing[0]} of {self.settings['set']}; add it, "
                    f"or set {self.key}.download: true to have torchvision download or "
                    "unpack it"
                )
            self._unpack()
        yield from super().images(wanted)

    def _missing_splits(self):
        """Return the names of the folders of missing splits."""
        splits = ("train",) if self.lacks_test_folder() else ("train", "test")
        folders = [self.settings[split] for split in splits]
        return [Path(folder).name for folder in folders if not (self.root / folder).is_dir()]

    def _unpack(self):
        """Unpack missing splits with torchvision; a killed job leaves no incomplete split.

        torchvision unpacks into a folder below the root with links to its files; complete splits
        are then moved to their final place.
        """
        name = self.settings["set"]
        staging = self.root / f".{name}-unpacking"
        options = {"download": True} if name == "Imagenette" else {}
        with (
            _one_line_errors(self.settings, self.root, download=True),
            lock(staging.with_suffix(".lock")),
        ):
            _make_staging(staging, FILES[name])
            try:
                for split in self._missing_splits():  # another job may have unpacked them meanwhile
                    _loader(name)(staging, split=split, **options)
                for folder in TORCHVISION_FOLDERS[name]:
                    if (staging / folder).is_dir() and not (self.root / folder).exists():
                        (self.root / folder).parent.mkdir(exist_ok=True)
                        (staging / folder).rename(self.root / folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)


def _make_staging(staging, files):
    """Make an empty folder with links to the files beside it, downloaded or not."""
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    for name in files:
        (staging / name).symlink_to(Path("..") / name)


def remedy(settings, root, split):
    """Return the remedy for a split whose files differ from the published ones."""
    name = settings["set"]
    if name in TORCHVISION_FOLDERS:
        folder = dict(zip(("train", "test"), TORCHVISION_FOLDERS[name], strict=True))[split]
        return f"delete {Path(root) / folder} and unpack it again"
    return (
        f"delete {' and '.join(str(Path(root) / file) for file in FILES[name])} and download again"
    )


def _loader(name):
    import torchvision.datasets

    return getattr(torchvision.datasets, name)


@contextlib.contextmanager
def _one_line_errors(settings, root, download):
    """Turn any error of torchvision's loaders into one line with a remedy."""
    name, files = settings["set"], ", ".join(FILES[settings["set"]])
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # the loaders raise errors of any type for damaged files
        # The first sentence names the files; the hint after it is about torchvision's arguments.
        reason = one_line(
            (str(error).splitlines() or [""])[0].split(" You ")[0].rstrip(".") or error
        )
        advice = f"add {files}, or set sources.{settings['name']}.download: true"
        if download:
            advice = f"replace damaged files among {files} by the published ones"
        raise StillhouseError(
            f"{root}: torchvision cannot load {name} ({reason}); {advice}"
        ) from None
