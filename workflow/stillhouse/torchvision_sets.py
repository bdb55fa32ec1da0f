"""Sources that torchvision knows how to load: arrays kept as PNG files, and folders of files."""

import io
from pathlib import Path

import numpy as np

from stillhouse.errors import StillhouseError
from stillhouse.folders import ImageFolder
from stillhouse.sources import TORCHVISION_FOLDERS, Image, classes


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
        data = _open(self.settings, self.root, download=self.download, **which)
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
        for split in ("train", "test"):
            if not (self.root / self.settings[split]).is_dir():
                self._unpack(Path(self.settings[split]).name)
        yield from super().images(wanted)

    def _unpack(self, split):
        if not self.download:
            raise StillhouseError(
                f"{self.root}: has no folder {split} of {self.settings['set']}; put it there, or "
                f"let torchvision fetch or unpack it: {self.key}.download: true"
            )
        fetch = {"download": True} if self.settings["set"] == "Imagenette" else {}
        _open(self.settings, self.root, split=split, **fetch)


def _open(settings, root, **arguments):
    """Return torchvision's data set; say in one line why it cannot."""
    import torchvision.datasets

    name = settings["set"]
    try:
        return getattr(torchvision.datasets, name)(root, **arguments)
    except (RuntimeError, OSError, ValueError) as error:
        # torchvision's own words name the files; its hint is a Python argument.
        reason = str(error).splitlines()[0].split(" You can use")[0].rstrip(".")
        raise StillhouseError(
            f"{root}: torchvision cannot load {name} from there ({reason}); put its files there, "
            f"or let it: sources.{settings['name']}.download: true"
        ) from None
