"""Sources by kind: the class that reads each."""

from stillhouse.data.sources.catalogue import by_reference
from stillhouse.data.sources.digits import Digits
from stillhouse.data.sources.image_folder import ImageFolder, TinyImageNet
from stillhouse.data.sources.parquet_files import ParquetFiles
from stillhouse.data.sources.torchvision_sets import TorchvisionFolder, TorchvisionSet


def _open_torchvision(settings, files, root, download):
    source = TorchvisionFolder if by_reference(settings) else TorchvisionSet
    return source(settings, root, download)


# Kind → function(settings, files, root, download) → source. A source has `images(classes)`, which
# yields the `Image`s of the classes in a stable order.
KINDS = {
    "digits": lambda settings, files, root, download: Digits(),
    "parquet": lambda settings, files, root, download: ParquetFiles(settings, files),
    "image_folder": lambda settings, files, root, download: ImageFolder(settings, root),
    "tiny_imagenet": lambda settings, files, root, download: TinyImageNet(settings, root),
    "torchvision": _open_torchvision,
}


def open_source(settings, files, root=None, download=False):
    """Return the source that `settings` describe.

    Parameters
    ----------
    settings : dict
        As returned by `catalogue.shaping`.
    files : dict of str to list of Path
        For ``parquet``: the files of the splits ``train`` and ``test``.
    root : str, optional
        Folder of the files, for kinds with a root.
    download : bool
        For ``torchvision``: whether missing files may be downloaded or unpacked.
    """
    return KINDS[settings["kind"]](settings, files, root, download)


def open_source_of_job(settings, inputs, context):
    """Return a source with the files and the root folder of a job.

    Parameters
    ----------
    settings : dict
        As returned by `catalogue.shaping`.
    inputs : dict
        Inputs of the stage; ``train`` and ``test`` are lists of Parquet files.
    context : stillhouse.artifacts.context.Context
    """
    root = context.source_roots.get(settings["name"])
    return open_source(settings, inputs, root, bool(context.extra.get("download")))
