"""The index of a source: every image once, read, decoded and hashed; the split after a holdout."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Parts
from stillhouse.artifacts.progress import LINE_SECONDS
from stillhouse.data.class_images import INDEX_SCHEMA, checksum, open_source, unreadable
from stillhouse.data.sources import catalogue, torchvision_sets
from stillhouse.errors import StillhouseError
from stillhouse.rng import generator, permutation

# Images that are listed, read and forgotten together; rows of a row group of the index.
PART = 1024
GROUP = 2**16
# A row of the index, and what is wrong with the image, null if nothing.
LISTED = INDEX_SCHEMA.append(pa.field("problem", pa.string()))


def index(inputs, spec, context):
    """Stage: list every image of a source with its checksum.

    The split is ``train`` or ``test``; with a holdout, part of the training split is ``test`` and
    the source's own test images are ``unused``. With ``on_bad_image: skip``, the file metadata
    have ``skipped``: class and image id of each image that was left out, and why.
    """
    settings = spec["settings"]
    source = open_source(settings, inputs, context)

    def make(key, context):
        table = pa.concat_tables(listed(source, settings, context)).combine_chunks()
        _check_ids(settings["name"], table["image_id"])
        if context.extra.get("as_published"):
            _check_published(table["split"].to_pylist(), settings, context)
        good = pc.is_null(table["problem"])
        skipped = table.filter(pc.invert(good)).select(["class_id", "image_id", "problem"])
        table = table.filter(good).select(INDEX_SCHEMA.names)
        splits = _splits(table, settings, context.extra.get("smallest_class"))
        table = table.set_column(2, "split", pa.array(splits, pa.string()))
        print(f"index: {table.num_rows} images, {skipped.num_rows} skipped", flush=True)
        schema = INDEX_SCHEMA
        if settings.get("on_bad_image") == "skip":
            schema = schema.with_metadata({"skipped": json.dumps(skipped.to_pylist())})
        starts = range(0, table.num_rows, GROUP)
        groups = (table.slice(first, GROUP).combine_chunks().cast(schema) for first in starts)
        return {"index.parquet": store.RowGroups(schema, groups)}

    return make


def listed(source, settings, context):
    """Yield tables of `LISTED`, `PART` images each, in the source's order.

    Images are read by ``index_threads`` threads, and no more than `PART` at a time. What is done is
    kept in side files, and taken from there where the source still lists the same images; those
    that could not be read, or have another size now, are read again.
    """
    images = source.images(set(catalogue.classes(settings)))
    parts = Parts(context, LISTED)
    kept = pa.concat_tables([LISTED.empty_table(), *parts.load()])
    if kept.num_rows:
        print(f"index: continues after {kept.num_rows} images", flush=True)
    started = told = time.monotonic()
    done = 0
    with ThreadPoolExecutor(int(context.extra.get("index_threads", 1))) as pool:
        while some := list(islice(images, PART)):
            part = kept.slice(done, PART)
            known = part["image_id"].to_pylist() == [image.image_id for image in some]
            rows = part.to_pylist() if known else [None] * len(some)
            rows = pool.map(partial(_row_again, settings, context), some, rows)
            part = pa.Table.from_pylist(list(rows), schema=LISTED)
            if not known:
                parts.add(part)
            yield part
            done += len(some)
            now = time.monotonic()
            if now - told >= LINE_SECONDS:
                print(f"index: {done} images in {now - started:.1f} s", flush=True)
                told = now


def _row_again(settings, context, image, row):
    """Return a kept row, or a new one if there is none or the image may have changed since."""
    if row and row["problem"] is None:
        with suppress(OSError):  # reading it will say why
            if _size(image, context.source_roots.get(settings["name"])) == row["bytes"]:
                return row
    return _row(image, settings, context)


def _size(image, root):
    """Return the bytes of an image, unread."""
    return (Path(root) / image.path).stat().st_size if image.data is None else len(image.data)


def _row(image, settings, context):
    """Return one row of `LISTED`."""
    root = context.source_roots.get(settings["name"])
    data = image.load(root)
    problem = unreadable(data)
    if problem and settings.get("on_bad_image") != "skip":
        where = f"{root}/{image.path}" if image.data is None else f"image {image.image_id!r}"
        raise StillhouseError(
            f"{where}: is not a readable image ({problem}); mend or remove it, or leave such "
            f"images out: sources.{settings['name']}.on_bad_image: skip"
        )
    return {
        "class_id": image.class_id,
        "image_id": image.image_id,
        "split": image.split,
        "bytes": len(data),
        "sha256": checksum(data),
        "problem": problem,
    }


def _check_ids(name, ids):
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        image_id = twice.field("values")[0].as_py()
        raise StillhouseError(f"sources.{name}: image id {image_id!r} is there twice")


def _check_published(splits, settings, context):
    """Compare how many images one of torchvision's sets has with how many were published."""
    if settings["kind"] != "torchvision":
        return
    published = catalogue.TORCHVISION[settings["set"]][2]
    for split, right in zip(("train", "test"), published, strict=True):
        count = splits.count(split)
        # With a holdout, the test split may be missing.
        if count != right and (count or split == "train" or not settings["holdout"]):
            name = settings["name"]
            remedy = torchvision_sets.remedy(settings, context.source_roots[name], split)
            raise StillhouseError(
                f"sources.{name}: has {count} {split} images, but {settings['set']} has {right} as "
                f"published; {remedy}, or, if these images are meant, "
                f"write sources.{name}.smallest_class"
            )


def _splits(table, settings, smallest_said):
    """Return the split of every row, after the holdout, and check the size of the classes."""
    key = f"sources.{settings['name']}"
    rows = zip(
        *(table[name].to_pylist() for name in ("class_id", "image_id", "split")), strict=True
    )
    rows = list(rows)
    of_class = {class_id: [] for class_id in catalogue.classes(settings)}
    tested = set()
    for class_id, image_id, split in rows:
        if split == "train":
            of_class[class_id].append(image_id)
        else:
            tested.add(class_id)
    smallest = min(of_class, key=lambda class_id: len(of_class[class_id]))
    n_smallest = len(of_class[smallest])
    if n_smallest == 0:
        raise StillhouseError(f"{key}: class {smallest!r} has no training image")
    if smallest_said and n_smallest < smallest_said:
        raise StillhouseError(
            f"{key}.smallest_class: is {smallest_said}, but class {smallest!r} has {n_smallest} "
            "training images; write that"
        )
    if not settings["holdout"]:
        untested = sorted(set(of_class) - tested)
        if untested:
            raise StillhouseError(f"{key}: class {untested[0]!r} has no test image")
        return [row[2] for row in rows]
    if catalogue.n_held_out(n_smallest, settings["holdout"]) == 0:
        raise StillhouseError(
            f"{key}.holdout: is {settings['holdout']:g}, which takes none of the {n_smallest} "
            f"images of class {smallest!r}; should be at least {0.6 / n_smallest:.2g}"
        )
    held = set()
    for class_id, ids in of_class.items():
        ids.sort()
        order = permutation(generator(0, "holdout", class_id), len(ids))
        held |= {ids[i] for i in order[: catalogue.n_held_out(len(ids), settings["holdout"])]}
    return ["unused" if r[2] == "test" else "test" if r[1] in held else "train" for r in rows]
