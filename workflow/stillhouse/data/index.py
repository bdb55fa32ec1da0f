"""Stage `index`: every image of a source, decoded and hashed, with its split after a holdout."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stillhouse.artifacts import formats
from stillhouse.artifacts.checkpoints import TableCheckpoint
from stillhouse.artifacts.progress import LINE_SECONDS
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data import leaks
from stillhouse.data.codecs import unreadable
from stillhouse.data.sources import catalogue, torchvision_sets
from stillhouse.data.sources.base import UnreadableFile, sha256
from stillhouse.data.sources.registry import open_source_of_job
from stillhouse.errors import StillhouseError

INDEX_SCHEMA = pa.schema(
    [
        ("class_id", pa.string()),
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)
# Images per chunk of the listing, and the bytes of them that are in memory at once; rows per row
# group of the index.
CHUNK = 1024
CHUNK_BYTES = 2**27
ROW_GROUP = 2**16
# A row of the index and the problem of the image, null for a readable one.
LISTED = INDEX_SCHEMA.append(pa.field("problem", pa.string()))


def index(inputs, spec, context):
    """Stage: list every image of a source with its checksum.

    The split is ``train`` or ``test``; with a holdout, part of the training split is ``test`` and
    the source's own test images are ``unused``. With ``on_bad_image: skip``, ``skipped`` in the
    file metadata lists class id, image id and problem of each unreadable image. The metadata also
    have ``in_both_splits``, the number of training images whose bytes equal those of a test image,
    and ``left_out``, the number of files in the classes' folders that are no images, by kind.
    """
    settings = spec["settings"]
    source = open_source_of_job(settings, inputs, context)

    def make(key, context):
        table = pa.concat_tables(list_images(source, settings, context)).combine_chunks()
        _check_ids(settings["name"], table["image_id"])
        if context.extra.get("as_published"):
            _check_published(table["split"].to_pylist(), settings, context)
        readable = pc.is_null(table["problem"])
        skipped = table.filter(pc.invert(readable)).select(["class_id", "image_id", "problem"])
        table = table.filter(readable).select(INDEX_SCHEMA.names)
        left_out = dict(sorted(getattr(source, "left_out", {}).items()))
        others = _listed({**left_out, "unreadable": skipped.num_rows})
        try:
            splits = _splits(table, settings, context.extra.get("smallest_class"))
        except StillhouseError as error:
            raise StillhouseError(
                f"{error}" + (f" (left out: {others})" if others else "")
            ) from None
        table = table.set_column(2, "split", pa.array(splits, pa.string()))
        leaked = leaks.in_both_splits(table).num_rows
        print(f"index: {table.num_rows} images; left out: {others or 'none'}", flush=True)
        print(f"index: {leaked} training images equal test images", flush=True)
        if context.extra.get("on_leak") == "error":
            leaks.check(settings["name"], table)
        metadata = {"in_both_splits": str(leaked), "left_out": json.dumps(left_out)}
        if settings["on_bad_image"] == "skip":
            metadata["skipped"] = json.dumps(skipped.to_pylist())
        schema = INDEX_SCHEMA.with_metadata(metadata)
        starts = range(0, table.num_rows, ROW_GROUP)
        groups = (table.slice(first, ROW_GROUP).combine_chunks().cast(schema) for first in starts)
        return {"index.parquet": formats.RowGroups(schema, groups)}

    return make


def _listed(counts):
    """Return counts as text: "2 .heic, 1 unreadable"."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def skipped_images(schema):
    """Return the images that an index skips as unreadable: [{class_id, image_id, problem}].

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the index file.
    """
    return json.loads((schema.metadata or {}).get(b"skipped", b"[]"))


def list_images(source, settings, context):
    """Yield tables of `LISTED`, at most `CHUNK` images each, in the source's order.

    Images are read by ``index_threads`` threads, a chunk at a time. Checkpoints hold the
    finished chunks. A chunk is reused if the source still lists the same images; images of it that
    were unreadable or have changed their size are read again.
    """
    images = source.images(set(catalogue.classes(settings)))
    checkpoint = TableCheckpoint(context, LISTED)
    finished = pa.concat_tables([LISTED.empty_table(), *checkpoint.resume("index", "chunk")])
    started = reported = time.monotonic()
    done = 0
    with ThreadPoolExecutor(int(context.extra.get("index_threads", 1))) as pool:
        for chunk_images in _chunks(images):
            chunk = finished.slice(done, len(chunk_images))
            image_ids = [image.image_id for image in chunk_images]
            reused = chunk["image_id"].to_pylist() == image_ids
            rows = chunk.to_pylist() if reused else [None] * len(chunk_images)
            rows = pool.map(partial(_updated_row, settings, context), chunk_images, rows)
            chunk = pa.Table.from_pylist(list(rows), schema=LISTED)
            if not reused:
                checkpoint.add(chunk)
            yield chunk
            done += len(chunk_images)
            now = time.monotonic()
            if now - reported >= LINE_SECONDS:
                print(f"index: {done} images in {now - started:.1f} s", flush=True)
                reported = now


def _chunks(images):
    """Yield lists of at most `CHUNK` images and little more than `CHUNK_BYTES`."""
    chunk, size = [], 0
    for image in images:
        chunk.append(image)
        size += len(image.data or b"")
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _updated_row(settings, context, image, row):
    """Return the row of a checkpoint; a new one if it is None or the image may have changed."""
    if row and row["problem"] is None:
        with suppress(OSError):  # reading the image gives the error message
            if _size(image, context.source_roots.get(settings["name"])) == row["bytes"]:
                return row
    return _row(image, settings, context)


def _size(image, root):
    """Return the size of an encoded image without reading it [bytes]."""
    return (Path(root) / image.path).stat().st_size if image.data is None else len(image.data)


def _row(image, settings, context):
    """Return one row of `LISTED`."""
    root = context.source_roots.get(settings["name"])
    try:
        data = image.load(root)
        problem = unreadable(data)
    except UnreadableFile as error:
        data, problem = b"", error.problem
    if problem and settings["on_bad_image"] != "skip":
        file = f"{root}/{image.path}" if image.data is None else f"image {image.image_id!r}"
        raise StillhouseError(
            f"{file}: not a readable image ({problem}); repair or remove it, or skip unreadable "
            f"images with sources.{settings['name']}.on_bad_image: skip"
        )
    return {
        "class_id": image.class_id,
        "image_id": image.image_id,
        "split": image.split,
        "bytes": len(data),
        "sha256": sha256(data),
        "problem": problem,
    }


def _check_ids(name, ids):
    counts = pc.value_counts(ids)
    duplicates = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(duplicates):
        image_id = duplicates.field("values")[0].as_py()
        raise StillhouseError(
            f"sources.{name}: duplicate image id {image_id!r}; the splits must be different files"
        )


def _check_published(splits, settings, context):
    """Compare the number of images of a torchvision data set with the published number."""
    if settings["kind"] != "torchvision":
        return
    published = catalogue.TORCHVISION[settings["set"]].images
    for split, expected in zip(("train", "test"), published, strict=True):
        count = splits.count(split)
        # With a holdout, the test split may be missing.
        if count != expected and (count or split == "train" or not settings["holdout"]):
            name = settings["name"]
            remedy = torchvision_sets.remedy(settings, context.source_roots[name], split)
            raise StillhouseError(
                f"sources.{name}: {count} {split} images conflict with the {expected} published "
                f"for {settings['set']}; {remedy}, or, to use these images, set "
                f"sources.{name}.smallest_class"
            )


def _splits(table, settings, smallest_class):
    """Return the split of every row after the holdout; check the size of the classes."""
    class_ids, image_ids, splits = (
        table[name].to_pylist() for name in ("class_id", "image_id", "split")
    )
    train_ids = {class_id: [] for class_id in catalogue.classes(settings)}
    tested = set()
    for class_id, image_id, split in zip(class_ids, image_ids, splits, strict=True):
        if split == "train":
            train_ids[class_id].append(image_id)
        else:
            tested.add(class_id)
    _check_class_sizes(train_ids, tested, settings, smallest_class)
    if not settings["holdout"]:
        return splits
    held_out = set()
    for class_id, ids in train_ids.items():
        ids.sort()
        order = permutation(generator(0, "holdout", class_id), len(ids))
        count = catalogue.n_held_out(len(ids), settings["holdout"])
        held_out |= {ids[i] for i in order[:count]}
    return [
        "unused" if split == "test" else "test" if image_id in held_out else "train"
        for image_id, split in zip(image_ids, splits, strict=True)
    ]


def _check_class_sizes(train_ids, tested, settings, smallest_class):
    """Raise for classes without training or test images, and for a wrong `smallest_class`.

    Parameters
    ----------
    train_ids : dict of str to list of str
        Ids of the training images by class id.
    tested : set of str
        Classes with test images.
    settings : dict
    smallest_class : int or None
        Of the config; None if missing.
    """
    key = f"sources.{settings['name']}"
    smallest = min(train_ids, key=lambda class_id: len(train_ids[class_id]))
    size = len(train_ids[smallest])
    if size == 0:
        raise StillhouseError(f"{key}: class {smallest!r} has no training image")
    if smallest_class and size < smallest_class:
        raise StillhouseError(
            f"{key}.smallest_class: must be at most {size}, the training images of class "
            f"{smallest!r}, not {smallest_class}"
        )
    if not settings["holdout"]:
        untested = sorted(set(train_ids) - tested)
        if untested:
            raise StillhouseError(f"{key}: class {untested[0]!r} has no test image")
    elif catalogue.n_held_out(size, settings["holdout"]) == 0:
        raise StillhouseError(
            f"{key}.holdout: must be at least {0.6 / size:.2g} to hold out any of the {size} "
            f"images of class {smallest!r}, not {settings['holdout']:g}"
        )
