"""Sources that torchvision holds as arrays: CIFAR, MNIST, SVHN; kept as lossless PNG files.

Collections of image files (ImageNet, Imagenette) are image folders once extracted.
"""

import io

import numpy as np

from stillhouse.errors import StillhouseError
from stillhouse.sources import Image, classes


class TorchvisionSet:
    """A data set of `torchvision.datasets`, whose loader reads and checks the files.

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
        import torchvision.datasets

        name = self.settings["set"]
        which = {"split": split} if name == "SVHN" else {"train": split == "train"}
        try:
            loader = getattr(torchvision.datasets, name)
            data = loader(self.root, download=self.download, **which)
        except (RuntimeError, OSError, ValueError) as error:
            # torchvision's own words name the files; its hint is a Python argument.
            reason = str(error).splitlines()[0].split(" You can use")[0].rstrip(".")
            raise StillhouseError(
                f"{self.root}: torchvision cannot load {name} from there ({reason}); put its files "
                f"there, or let it: sources.{self.settings['name']}.download: true"
            ) from None
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
