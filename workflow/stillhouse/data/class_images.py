"""Reading what a source holds: its images per class, its splits as arrays."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image as Pillow

from stillhouse.artifacts import store
from stillhouse.data.boxes import centre_box
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError

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


# Images that are kept by reference: no bytes, a path below the root, and what lies there.
REFERENCES_SCHEMA = pa.schema([*IMAGES_SCHEMA, ("bytes", pa.int64()), ("sha256", pa.string())])


def open_source(settings, inputs, context):
    """Return a source as a job reads it: `settings` of its index, files or root of today."""
    root = context.source_roots.get(settings["name"])
    return catalogue.open_source(settings, inputs, root, bool(context.extra.get("download")))


def images(inputs, spec, context):
    """Stage: keep the encoded images of each class, checked against the index.

    Of images that stay where they are, their paths and checksums are kept; they are checked when
    they are read.
    """
    path = inputs["index"]
    table = store.read_table(path, schema=INDEX_SCHEMA)
    skipped = {row["image_id"] for row in skipped_images(table.schema)}
    source_settings = store.read_spec(path.parent)["settings"]
    known = {}
    for row in table.filter(pc.is_in(table["class_id"], pa.array(context.keys))).to_pylist():
        known.setdefault(row["class_id"], []).append(row)
    source = open_source(source_settings, inputs, context)
    found = {}
    # One pass over the source serves the whole block.
    for image in source.images(set(context.keys)):
        if image.image_id not in skipped:
            found.setdefault(image.class_id, []).append(image)

    def make(class_id, context):
        some = _images_table(source_settings, class_id, found.pop(class_id, []), known[class_id])
        return {"images.parquet": some}

    return make


def skipped_images(schema):
    """Return what an index has left out as not readable: [{class_id, image_id, problem}].

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the index, as read from its file.
    """
    return json.loads((schema.metadata or {}).get(b"skipped", b"[]"))


def _images_table(settings, class_id, found, rows):
    images = {image.image_id: image for image in found}
    kept = []
    for row in rows:
        image = images.pop(row["image_id"], None)
        if image is None:
            raise _changed(settings, class_id, row["image_id"], "is gone")
        if image.data is not None and checksum(image.data) != row["sha256"]:
            raise _changed(settings, class_id, row["image_id"], "has changed")
        if row["split"] != "unused":
            kept.append({**row, "image": {"bytes": image.data, "path": image.path}})
    if images:
        raise _changed(settings, class_id, min(images), "has been added")
    schema = REFERENCES_SCHEMA if catalogue.by_reference(settings) else IMAGES_SCHEMA
    return pa.table({name: [row[name] for row in kept] for name in schema.names}, schema=schema)


def _changed(settings, class_id, image_id, what):
    return StillhouseError(
        f"source {settings['name']!r}: image {image_id!r} of class {class_id!r} {what} since the "
        f"source was indexed; if that is meant, raise sources.{settings['name']}.revision above "
        f"{settings['revision']}"
    )


def checksum(data):
    """Return the SHA-256 of bytes as hexadecimal text."""
    return hashlib.sha256(data).hexdigest()


class Rows(Sequence):
    """The images of one class in one split by image id: (image id, bytes).

    Images that are kept by reference are read, and compared with the index, when they are asked
    for; so looking at a few of many costs no more than that.
    """

    def __init__(self, rows, read):
        self.rows = rows
        self.names = sorted(rows)
        self.read_row = read

    def __len__(self):
        return len(self.names)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [(name, self.read(name)) for name in self.names[i]]
        return self.names[i], self.read(self.names[i])

    def read(self, name):
        """Return the bytes of the image with an id."""
        return self.read_row(self.rows[name])


def read_class(path, split, roots=None):
    """Return the `Rows` of one class in one split.

    Parameters
    ----------
    path : Path
        Its images artifact.
    split : str
    roots : dict of str to str, optional
        Root by source, for images that are kept by reference; see `jobs.Context`.
    """
    table = store.read_table(path, schema=IMAGES_SCHEMA)
    table = table.filter(pc.equal(table["split"], split))
    if "sha256" not in table.schema.names:
        content = pc.struct_field(table["image"], "bytes").to_pylist()
        rows = dict(zip(table["image_id"].to_pylist(), content, strict=True))
        return Rows(rows, lambda data: data)
    rows = {row["image_id"]: row for row in table.to_pylist()}
    settings = store.read_spec(Path(path).parent)["upstream"]["index"]["settings"]
    root = (roots or {})[settings["name"]]
    return Rows(rows, lambda row: _read_reference(root, row, settings))


def _read_reference(root, row, settings):
    """Read an image that is kept by reference and compare it with the index."""
    data = catalogue.read_file(root, row["image"]["path"])
    if len(data) != row["bytes"] or checksum(data) != row["sha256"]:
        raise _changed(settings, row["class_id"], row["image_id"], "has changed")
    return data


def decode(data, name="image"):
    """Decode an image file to (3, height, width) uint8, RGB, the way up that its EXIF data say.

    Grey of 16 bits is divided by 257; transparency is ignored, as by torchvision's loader.
    """
    try:
        with Pillow.open(io.BytesIO(data)) as image:
            _check_range(image)
            pixels = np.asarray(_upright(_rgb(image), image))
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise anything
        raise StillhouseError(f"{name}: is not a readable image ({_reason(error)})") from None
    return pixels.transpose(2, 0, 1)


def _upright(pixels, image):
    """Turn `pixels` as the EXIF data of the file say that they came from, if it has any."""
    try:
        turn = _TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # damaged EXIF data raise anything; the pixels are sound
        turn = None
    return pixels if turn is None else pixels.transpose(turn)


ORIENTATION = 0x0112
# The tag's value → how to turn back; 1 is upright (Exif 2.3, section 4.6.4).
_TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}


def _rgb(image):
    """Bring a Pillow image of any mode to 8-bit RGB."""
    if image.mode.startswith("I"):
        grey = np.rint(np.asarray(image) / 257).astype(np.uint8)
        return Pillow.fromarray(grey).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGBA")  # else Pillow warns of transparency
    return image.convert("RGB")


def _check_range(image):
    # Pillow has PGM files of more than 8 bits as 32-bit integers, scaled to 16 bits.
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise ValueError(f"pixels of mode {image.mode}, of which black and white are not known")


def _reason(error):
    # Without the address in memory that Pillow's words end in: the index keeps them.
    return (str(error).splitlines() or [type(error).__name__])[0].split(" <_io.")[0]


def unreadable(data):
    """Return why `decode` could not decode an image file; None if it can.

    All of the file is decoded, a JPEG file in an eighth of its size, which takes half the time.
    """
    try:
        with Pillow.open(io.BytesIO(data)) as image:
            _check_range(image)
            image.draft(image.mode, (1, 1))
            image.load()
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise anything
        return _reason(error)
    return None


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


def load_split(files, class_ids, resolution, split, roots=None, whole=False):
    """Load a split of a dataset into memory, as networks see it.

    Parameters
    ----------
    files : dict of str to Path
        Image artifacts by class id.
    class_ids : list of str
        In the order of the labels.
    resolution : int
        Side of the result [px].
    split : str
        ``test``: the centre that `test_box` gives; ``train``: the largest centred square.
    roots : dict of str to str, optional
        As `read_class` takes them.
    whole : bool
        Show the largest centred square of test images too.

    Returns
    -------
    images : (n, 3, resolution, resolution) uint8 tensor
    labels : (n,) int64 tensor
    """
    import torch

    parts, labels = [], []
    for label, class_id in enumerate(class_ids):
        rows = read_class(files[class_id], split, roots)
        pixels = [decode(data, name) for name, data in rows]
        parts.append(_squares(pixels, resolution, whole or split == "train"))
        labels += [label] * len(rows)
    return torch.cat(parts), torch.tensor(labels)


def _squares(pixels, resolution, whole):
    """Bring images to one square size; those of one shape together."""
    import torch

    from stillhouse.data.transforms import cut

    result = torch.empty((len(pixels), 3, resolution, resolution), dtype=torch.uint8)
    shapes = {}
    for i, image in enumerate(pixels):
        shapes.setdefault(image.shape[1:], []).append(i)
    for (height, width), rows in shapes.items():
        box = centre_box(height, width) if whole else test_box(height, width, resolution)
        if (height, width) == (resolution, resolution) == tuple(box[2:]):  # as they are
            result[rows] = torch.from_numpy(np.stack([pixels[i] for i in rows]))
            continue
        for first in range(0, len(rows), 256):
            some = rows[first : first + 256]
            batch = torch.from_numpy(np.stack([pixels[i] for i in some]))
            boxes = torch.from_numpy(box).expand(len(some), 4)
            result[some] = cut(batch, boxes, resolution).round().clamp(0, 255).to(torch.uint8)
    return result
