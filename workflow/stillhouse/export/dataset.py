"""A distilled set as a folder that ``datasets.load_dataset`` opens, with card and citation."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from stillhouse.artifacts import store
from stillhouse.artifacts.stages import DISTILLED, LABELS
from stillhouse.errors import StillhouseError
from stillhouse.export import card, folders
from stillhouse.export.features import features

SPLIT = "train"


@dataclass(frozen=True)
class Part:
    """A configuration of the dataset: one Parquet file, the split ``train``.

    Parameters
    ----------
    name : str
        ``images`` or ``soft_labels``.
    source : Path
        The artifact's file, which is copied unchanged.
    spec : dict
        Of the artifact.
    """

    name: str
    source: Path
    spec: dict

    @property
    def file(self):
        """Path in the dataset."""
        return f"{self.name}/{SPLIT}.parquet"

    def info(self):
        """Return the part's ``dataset_info`` of the card, plain values."""
        stored = pq.ParquetFile(self.source)
        metadata, classes = stored.metadata, ()
        if self.spec["stage"] == DISTILLED.name:
            classes = self.spec["settings"]["classes"]
        groups = range(metadata.num_row_groups)
        n_bytes = sum(metadata.row_group(number).total_byte_size for number in groups)
        return {
            "config_name": self.name,
            "features": features(stored.schema_arrow, classes),
            "splits": [{"name": SPLIT, "num_bytes": n_bytes, "num_examples": metadata.num_rows}],
            "download_size": self.source.stat().st_size,
            "dataset_size": n_bytes,
        }


def export(spec, folder, license_name="unknown"):
    """Write a distilled set with its soft labels to a folder; return its parts.

    Parameters
    ----------
    spec : dict
        Of the set, which is exported with all of its soft label tables, or of one of these.
    folder : str or Path
        See `stillhouse.export.folders.written`.
    license_name : str
        Licence of the source's images.

    Raises
    ------
    StillhouseError
        If the spec is that of another stage, or a file is missing or damaged.
    """
    exported = parts(spec)
    store.check(part.source for part in exported)
    with folders.written(folder) as temporary:
        for part in exported:
            (temporary / part.file).parent.mkdir()
            shutil.copyfile(part.source, temporary / part.file)
        for name, text in card.files(exported, license_name).items():
            (temporary / name).write_text(text, encoding="utf-8")
    return exported


def parts(spec):
    """Return the `Part`s of a dataset: the images, then the soft label tables."""
    if spec["stage"] == LABELS.name:
        distilled, label_specs = spec["upstream"]["distilled"], [spec]
    elif spec["stage"] == DISTILLED.name:
        distilled, label_specs = spec, label_tables(spec)
    else:
        raise StillhouseError(
            f"{spec['address']}: stage {spec['stage']}; must be a distilled set "
            "(results/distilled/…) or a soft label table (results/labels/…)"
        )
    names = [f"soft_labels_{labels['digest']}" for labels in label_specs]
    names = names if len(names) > 1 else ["soft_labels"] * len(names)
    return [
        Part("images", Path(distilled["address"]) / DISTILLED.files[0], distilled),
        *(
            Part(name, Path(labels["address"]) / LABELS.files[0], labels)
            for name, labels in zip(names, label_specs, strict=True)
        ),
    ]


def label_tables(distilled):
    """Return the specs of all complete soft label tables of a set, in the order of their paths."""
    specs = []
    for path in sorted(Path("results/labels").glob(f"*/{store.SPEC}")):
        if (path.parent / LABELS.files[0]).exists():
            spec = store.read_spec(path.parent)
            if spec["upstream"]["distilled"]["address"] == distilled["address"]:
                specs.append(spec)
    return specs
