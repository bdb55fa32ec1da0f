"""Reading what a source holds: its index, its images per class, its splits as arrays."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from stillhouse import artifacts, sources
from stillhouse.boxes import centre_box
from stillhouse.errors import StillhouseError
from stillhouse.seeds import generator, permutation
from stillhouse.spec import class_of

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
INDEX_SCHEMA = pa.schema(
    [
        ("class_id", pa.string()),
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)
IMAGES_SCHEMA = pa.schema(
    [("image", IMAGE), ("class_id", pa.string()), ("image_id", pa.string()), ("split", pa.string())]
)


def index(inputs, spec, context):
    """Stage: list every image of a source with its checksum.

    The split is ``train`` or ``test``; with a holdout, part of the training split is ``test`` and
    the source's own test images are ``unused``.
    """
    settings = spec["settings"]
    source = sources.open_source(settings, inputs)

    def make(key, context):
        rows = [
            (image.class_id, image.image_id, image.split, len(image.data), _sha256(image.data))
            for image in source.images(set(sources.classes(settings)))
        ]
        _check_ids(settings["name"], rows)
        columns = [list(column) for column in zip(*rows, strict=True)]
        columns[2] = _splits(rows, settings, context.extra.get("smallest_class"))
        return {"index.parquet": pa.table(columns, schema=INDEX_SCHEMA)}

    return make


def _check_ids(name, rows):
    seen = set()
    for _, image_id, *_ in rows:
        if image_id in seen:
            raise StillhouseError(f"sources.{name}: image id {image_id!r} is there twice")
        seen.add(image_id)


def _splits(rows, settings, smallest_said):
    """Return the split of every row, after the holdout, and check the size of the classes."""
    key = f"sources.{settings['name']}"
    of_class = {class_id: [] for class_id in sources.classes(settings)}
    tested = set()
    for class_id, image_id, split, *_ in rows:
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
    if sources.n_held_out(n_smallest, settings["holdout"]) == 0:
        raise StillhouseError(
            f"{key}.holdout: is {settings['holdout']:g}, which takes none of the {n_smallest} "
            f"images of class {smallest!r}; should be at least {0.6 / n_smallest:.2g}"
        )
    held = set()
    for class_id, ids in of_class.items():
        ids.sort()
        order = permutation(generator(0, "holdout", class_id), len(ids))
        held |= {ids[i] for i in order[: sources.n_held_out(len(ids), settings["holdout"])]}
    return ["unused" if r[2] == "test" else "test" if r[1] in held else "train" for r in rows]


def images(inputs, spec, context):
    """Stage: keep the encoded images of each class, checked against the index."""
    (path,) = inputs["index"]
    table = artifacts.read_table(path, schema=INDEX_SCHEMA)
    source_settings = artifacts.read_spec(path.parent)["settings"]
    known = {}
    for row in table.filter(pc.is_in(table["class_id"], pa.array(context.keys))).to_pylist():
        known.setdefault(row["class_id"], []).append(row)
    source = sources.open_source(source_settings, inputs)
    found = {}
    # One pass over the source serves the whole block.
    for image in source.images(set(context.keys)):
        found.setdefault(image.class_id, []).append(image)

    def make(class_id, context):
        some = _images_table(source_settings, class_id, found.pop(class_id, []), known[class_id])
        return {"images.parquet": some}

    return make


def _images_table(settings, class_id, found, rows):
    images = {image.image_id: image for image in found}
    kept = []
    for row in rows:
        image = images.pop(row["image_id"], None)
        if image is None or _sha256(image.data) != row["sha256"]:
            what = "is gone" if image is None else "has changed"
            raise _changed(settings, class_id, row["image_id"], what)
        if row["split"] != "unused":
            kept.append(({"bytes": image.data, "path": image.path}, row["split"], row["image_id"]))
    if images:
        raise _changed(settings, class_id, min(images), "has been added")
    return pa.table(
        {
            "image": [image for image, _, _ in kept],
            "class_id": [class_id] * len(kept),
            "image_id": [image_id for _, _, image_id in kept],
            "split": [split for _, split, _ in kept],
        },
        schema=IMAGES_SCHEMA,
    )


def _changed(settings, class_id, image_id, what):
    return StillhouseError(
        f"source {settings['name']!r}: image {image_id!r} of class {class_id!r} {what} since the "
        f"source was indexed; if that is meant, raise sources.{settings['name']}.revision above "
        f"{settings['revision']}"
    )


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


def read_class(path, split):
    """Return the rows of one class in one split, by image id: [(image id, bytes)]."""
    table = artifacts.read_table(path, schema=IMAGES_SCHEMA)
    rows = [row for row in table.to_pylist() if row["split"] == split]
    return sorted((row["image_id"], row["image"]["bytes"]) for row in rows)


def decode(data, name="image"):
    """Decode an image file to (3, height, width) uint8, RGB."""
    try:
        with Pillow.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError) as error:
        raise StillhouseError(f"{name}: is not a readable image ({error})") from None


def encode(pixels, encoding):
    """Encode (3, height, width) uint8 as a ``png`` (lossless) or ``jpeg`` (quality 75) file."""
    buffer = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, encoding.upper())
    return buffer.getvalue()


def test_box(height, width, resolution):
    """Return the centred square that a network of `resolution` px is tested on, (4,) int64.

    RDED's code resizes the short side to resolution // 7 × 8 px and cuts resolution px from the
    middle: 224 of 256 and 57 of 64 px, all of 32 px.
    """
    return centre_box(height, width, min(resolution / (resolution // 7 * 8 or resolution), 1.0))


def load_split(paths, class_ids, resolution, split):
    """Load a split of a dataset into memory, as networks see it.

    Parameters
    ----------
    paths : list of Path
        Per-class image artifacts, in any order.
    class_ids : list of str
        In the order of the labels.
    resolution : int
        Side of the result [px].
    split : str
        ``test``: the centre that `test_box` gives; ``train``: the largest centred square.

    Returns
    -------
    images : (n, 3, resolution, resolution) uint8 tensor
    labels : (n,) int64 tensor
    """
    import torch

    by_class = {class_of(path): path for path in paths}
    parts, labels = [], []
    for label, class_id in enumerate(class_ids):
        rows = read_class(by_class[class_id], split)
        parts.append(_squares([decode(data, name) for name, data in rows], resolution, split))
        labels += [label] * len(rows)
    return torch.cat(parts), torch.tensor(labels)


def _squares(pixels, resolution, split):
    """Bring images to one square size; those of one shape together."""
    import torch

    from stillhouse.transforms import cut

    result = torch.empty((len(pixels), 3, resolution, resolution), dtype=torch.uint8)
    shapes = {}
    for i, image in enumerate(pixels):
        shapes.setdefault(image.shape[1:], []).append(i)
    for (height, width), rows in shapes.items():
        box = centre_box(height, width)
        if split == "test":
            box = test_box(height, width, resolution)
        for first in range(0, len(rows), 256):
            some = rows[first : first + 256]
            batch = torch.from_numpy(np.stack([pixels[i] for i in some]))
            boxes = torch.from_numpy(box).expand(len(some), 4)
            result[some] = cut(batch, boxes, resolution).round().clamp(0, 255).to(torch.uint8)
    return result
