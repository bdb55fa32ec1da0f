"""Stage `images`: the images of a source, stored per class; reading a class."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stillhouse.artifacts import formats, store
from stillhouse.data.codecs import IMAGE
from stillhouse.data.index import INDEX_SCHEMA, skipped_images
from stillhouse.data.sources import catalogue
from stillhouse.data.sources.base import read_file, sha256
from stillhouse.data.sources.registry import open_source_of_job
from stillhouse.errors import StillhouseError

IMAGES_SCHEMA = pa.schema(
    [("image", IMAGE), ("class_id", pa.string()), ("image_id", pa.string()), ("split", pa.string())]
)
# Bytes of images per row group: readers of structs take row groups of less than 2 GiB.
GROUP_BYTES = 2**28
# Images by reference: no bytes, a path below the root, size and checksum of the file.
REFERENCES_SCHEMA = pa.schema([*IMAGES_SCHEMA, ("bytes", pa.int64()), ("sha256", pa.string())])


def images(inputs, spec, context):
    """Stage: store the encoded images of each class, after comparing them with the index.

    For a source by reference, paths and checksums are stored; the files are checked on reading.
    """
    return _Images(inputs, context)


class _Images:
    """Images of the classes of a job, from one pass over the source."""

    def __init__(self, inputs, context):
        path = inputs["index"]
        table = store.read_table(path, schema=INDEX_SCHEMA)
        self.settings = store.read_spec(path.parent)["settings"]
        self.indexed = {class_id: [] for class_id in context.keys}
        for row in table.filter(pc.is_in(table["class_id"], pa.array(context.keys))).to_pylist():
            self.indexed[row["class_id"]].append(row)
        skipped = {row["image_id"] for row in skipped_images(table.schema)}
        source = open_source_of_job(self.settings, inputs, context)
        self.images = {class_id: [] for class_id in context.keys}
        for image in source.images(set(context.keys)):
            if image.image_id not in skipped:
                self.images[image.class_id].append(image)

    def __call__(self, class_id, context):
        images = self.images.pop(class_id)
        rows = _class_rows(self.settings, class_id, images, self.indexed[class_id])
        return {"images.parquet": rows}


def _class_rows(settings, class_id, images, indexed):
    """Return the rows of one class; `images` of the source must be those `indexed`."""
    by_id = {image.image_id: image for image in images}
    rows = []
    for row in indexed:
        image = by_id.pop(row["image_id"], None)
        if image is None:
            raise _source_changed(settings, class_id, row["image_id"], "was removed")
        if image.data is not None and sha256(image.data) != row["sha256"]:
            raise _source_changed(settings, class_id, row["image_id"], "was changed")
        if row["split"] != "unused":
            rows.append({**row, "image": {"bytes": image.data, "path": image.path}})
    if by_id:
        raise _source_changed(settings, class_id, min(by_id), "was added")
    schema = REFERENCES_SCHEMA if catalogue.by_reference(settings) else IMAGES_SCHEMA
    groups = (pa.Table.from_pylist(group, schema=schema) for group in _row_groups(rows))
    return formats.RowGroups(schema, groups)


def _row_groups(rows):
    """Yield lists of rows of `GROUP_BYTES` and an image at most; without rows, an empty list."""
    group, size = [], 0
    for row in rows:
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += len(row["image"]["bytes"] or b"")
    yield group


def _source_changed(settings, class_id, image_id, change):
    return StillhouseError(
        f"sources.{settings['name']}: image {image_id!r} of class {class_id!r} {change} after the "
        f"source was indexed; undo the change, or raise sources.{settings['name']}.revision above "
        f"{settings['revision']} to index the source again"
    )


class ClassImages(Sequence):
    """The images of one class in one split, sorted by image id: pairs (image id, bytes).

    Images by reference are read, and compared with the index, on access, so that a few of many
    images are cheap.
    """

    def __init__(self, rows, read):
        self.rows = rows
        self.image_ids = sorted(rows)
        self.read_row = read

    def __len__(self):
        return len(self.image_ids)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [(image_id, self.read(image_id)) for image_id in self.image_ids[i]]
        return self.image_ids[i], self.read(self.image_ids[i])

    def read(self, image_id):
        """Return the encoded image of an id."""
        return self.read_row(self.rows[image_id])


def read_class(path, split, source_roots=None):
    """Return the `ClassImages` of one class in one split.

    Parameters
    ----------
    path : Path
        ``images.parquet`` of the class.
    split : str
    source_roots : dict of str to str, optional
        Root folder by source, for images by reference; see `context.Context`.
    """
    stored = store.open_row_groups(path, schema=IMAGES_SCHEMA)
    names = stored.schema_arrow.names
    groups = (formats.batches(stored, group, names) for group in range(stored.num_row_groups))
    batches = itertools.chain.from_iterable(groups)
    rows = (row for batch in batches for row in batch.to_pylist() if row["split"] == split)
    if "sha256" not in names:
        content = {row["image_id"]: row["image"]["bytes"] for row in rows}
        return ClassImages(content, lambda data: data)
    settings = store.read_spec(Path(path).parent)["upstream"]["index"]["settings"]
    root = (source_roots or {})[settings["name"]]
    by_id = {row["image_id"]: row for row in rows}
    return ClassImages(by_id, lambda row: _read_reference(root, row, settings))


def count_images(path, split):
    """Return the number of images of one class in one split; none is read.

    Parameters
    ----------
    path : Path
        ``images.parquet`` of the class.
    split : str
    """
    stored = store.open_row_groups(path, schema=IMAGES_SCHEMA)
    return stored.read(columns=["split"])["split"].to_pylist().count(split)


def _read_reference(root, row, settings):
    """Read an image by reference and compare it with the index."""
    data = read_file(root, row["image"]["path"])
    if len(data) != row["bytes"] or sha256(data) != row["sha256"]:
        raise _source_changed(settings, row["class_id"], row["image_id"], "was changed")
    return data
