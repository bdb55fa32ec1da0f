"""Images of the page: one sheet per distilled set, columns are classes, rows its first images."""

import io

from PIL import Image

from stillhouse.data.sources.class_names import with_name
from stillhouse.reporting import table_layout
from stillhouse.reporting.contact_sheets import CELL, first_images, scaled
from stillhouse.reporting.page.drawing import data_uri

LOSSLESS_SIDE = 32  # px; larger images are stored with losses
QUALITY = 85


def matrices(frame, identities, paths):
    """Return the picture matrices, one per IPC.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read`.
    identities : list of dict
        ``method``, ``ipc`` and ``distill_seed`` of each distilled set.
    paths : list of Path
        Its ``images.parquet``.

    Returns
    -------
    dict of int to dict
        ``classes``: names of the first ones; ``sets``: ``name``, ``method``, ``uri`` and
        ``rows`` (images per class shown) of each.
    """
    names, by_ipc = table_layout.set_names(frame), {}
    for identity, path in zip(identities, paths, strict=True):
        classes, rows, data = sheet(path)
        entry = by_ipc.setdefault(identity["ipc"], {"classes": classes, "sets": []})
        name = names[identity["method"], identity["distill_seed"]]
        uri = data_uri(data, "image/webp")
        entry["sets"].append({"name": name, "method": identity["method"], "uri": uri, "rows": rows})
    return by_ipc


def sheet(path):
    """Return class names, number of rows and the WebP file of a distilled set's sheet.

    Images keep their size up to `CELL` px, larger ones are reduced to it by averaging. Classes with
    fewer images than others have grey in their place.
    """
    images = first_images(path)
    rows = max(map(len, images.values()))
    side = min(CELL, max(next(iter(images.values()))[0].size))
    canvas = Image.new("RGB", (side * len(images), side * rows), "#888888")
    for column, of_class in enumerate(images.values()):
        for row, image in enumerate(of_class):
            canvas.paste(scaled(image, (side, side)), (side * column, side * row))
    buffer = io.BytesIO()
    canvas.save(buffer, "WEBP", lossless=side <= LOSSLESS_SIDE, quality=QUALITY, method=4)
    return [_short(name) for name in images], rows, buffer.getvalue()


def _short(class_id):
    """Return the lemma of a WordNet id, any other class id as it is."""
    return with_name(class_id, "\n").split("\n")[-1]
