"""Sources that torchvision knows how to load: arrays kept as PNG files, and folders of files."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np

from stillhouse.artifacts.jobs import lock
from stillhouse.data.sources.catalogue import TORCHVISION_FOLDERS, Image, classes
from stillhouse.data.sources.image_folder import ImageFolder
from stillhouse.errors import StillhouseError

# Where torchvision looks for a set below the root: files that it reads or unpacks.
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
    """A data set that torchvision holds as arrays, whose loader reads and checks the files.

    CIFAR's files are pickles: torchvision compares their MD5 with the published ones first.

    Parameters
    ----------
    settings : dict
        ``name``, ``set`` (torchvision's class).
    root : str
        As torchvision takes it.
    download : bool
        Whether torchvision may fetch what is not there.
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
                    f"{self.root}: has {len(data.data)} images and {len(labels)} labels in its "
                    f"{split} split; {remedy(self.settings, self.root, split)}"
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
        which = {"split": split} if name == "SVHN" else {"train": split == "train"}
        with _one_line(self.settings, self.root, self.download):
            data = _loader(name)(self.root, download=self.download, **which)
        self._check_names(getattr(data, "classes", None))
        return data

    def _check_names(self, found):
        """Compare the classes with those that CIFAR's own files name."""
        if self.settings["set"].startswith("CIFAR") and tuple(found) != self.classes:
            raise StillhouseError(
                f"{self.root}: its files name the classes {', '.join(found)[:60]}…; those of "
                f"{self.settings['set']} should be {', '.join(self.classes)[:60]}…"
            )

    def _names(self, labels, split):
        strange = [label for label in labels if not 0 <= label < len(self.classes)]
        if strange:
            raise StillhouseError(
                f"{self.root}: has label {strange[0]} in its {split} split; "
                f"{self.settings['set']} has {len(self.classes)} classes"
            )
        return [self.classes[label] for label in labels]


class TorchvisionFolder(ImageFolder):
    """A data set that torchvision unpacks into image files, which stay where they are.

    Parameters
    ----------
    settings, root, download
        As for `TorchvisionSet`; without `download`, nothing is unpacked either.
    """

    def __init__(self, settings, root, download=False):
        train, test = TORCHVISION_FOLDERS[settings["set"]]
        listed = {"classes": classes(settings), "train": train, "test": test}
        super().__init__({**settings, **listed}, root)
        self.download = download

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, once they are there."""
        if absent := self._absent():
            if not self.download:
                raise StillhouseError(
                    f"{self.root}: has no folder {absent[0]} of {self.settings['set']}; put it "
                    f"there, or let torchvision fetch or unpack it: {self.key}.download: true"
                )
            self._unpack()
        yield from super().images(wanted)

    def _absent(self):
        """Return the splits that should be there and are not, by their folders' names."""
        splits = ("train",) if self.untested() else ("train", "test")
        folders = [self.settings[split] for split in splits]
        return [Path(folder).name for folder in folders if not (self.root / folder).is_dir()]

    def _unpack(self):
        """Have torchvision unpack what is absent, so that no kill leaves half of it.

        It unpacks into a folder below the root that has links to the files it wants; what it has
        finished is then moved to its place.
        """
        name = self.settings["set"]
        draft = self.root / f".{name}-unpacking"
        fetch = {"download": True} if name == "Imagenette" else {}
        with _one_line(self.settings, self.root, download=True), lock(draft):
            _make_draft(draft, FILES[name])
            try:
                for split in self._absent():  # asked again: another job may have held the lock
                    _loader(name)(draft, split=split, **fetch)
                for folder in TORCHVISION_FOLDERS[name]:
                    if (draft / folder).is_dir() and not (self.root / folder).exists():
                        (self.root / folder).parent.mkdir(exist_ok=True)
                        (draft / folder).rename(self.root / folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)


def _make_draft(draft, files):
    """Make an empty folder with links to the files beside it, those yet to be fetched as well."""
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(parents=True)
    for name in files:
        (draft / name).symlink_to(Path("..") / name)


def remedy(settings, root, split):
    """Return what to do about a split whose files are not those that were published."""
    name = settings["set"]
    if name in TORCHVISION_FOLDERS:
        folder = dict(zip(("train", "test"), TORCHVISION_FOLDERS[name], strict=True))[split]
        return f"delete {Path(root) / folder} and unpack it again"
    return f"delete {' and '.join(str(Path(root) / file) for file in FILES[name])} and fetch again"


def _loader(name):
    import torchvision.datasets

    return getattr(torchvision.datasets, name)


@contextlib.contextmanager
def _one_line(settings, root, download):
    """Say in one line why torchvision cannot load a set, and what to do about it."""
    name, files = settings["set"], ", ".join(FILES[settings["set"]])
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # its loaders raise anything for files that are damaged
        # torchvision's own words name the files; its hints are a Python argument and our draft.
        reason = (str(error).splitlines() or [""])[0].split(" You ")[0].rstrip(".")
        what = f"put there {files}, or let it: sources.{settings['name']}.download: true"
        if download:
            what = f"delete what is damaged of {files} there, and put it there as published"
        raise StillhouseError(
            f"{root}: torchvision cannot load {name} from there "
            f"({reason or type(error).__name__}); {what}"
        ) from None
