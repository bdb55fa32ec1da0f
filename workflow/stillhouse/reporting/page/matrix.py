"""Images of the page: one sheet per distilled set, columns are classes, rows its first images."""

import base64
import io

from PIL import Image

from stillhouse.artifacts import store
from stillhouse.data.sources.class_names import with_name
from stillhouse.reporting import table_layout
from stillhouse.reporting.contact_sheets import CELL, MAX_CLASSES, MAX_IMAGES

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
        ``classes``: names of the first `MAX_CLASSES`; ``sets``: ``name``, ``method``, ``uri`` and
        ``rows`` (images per class shown) of each.
    """
    names, by_ipc = table_layout.set_names(frame), {}
    for identity, path in zip(identities, paths, strict=True):
        classes, rows, data = sheet(path)
        entry = by_ipc.setdefault(identity["ipc"], {"classes": classes, "sets": []})
        name = names[identity["method"], identity["distill_seed"]]
        uri = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
        entry["sets"].append({"name": name, "method": identity["method"], "uri": uri, "rows": rows})
    return by_ipc


def sheet(path):
    """Return class names, number of rows and the WebP file of a distilled set's sheet.

    Images keep their size up to `CELL` px, larger ones are reduced to it by averaging. Classes with
    fewer images than others have grey in their place.
    """
    table, places = store.read_table(path, columns=["image", "class_id"]), {}
    for i, class_id in enumerate(table["class_id"].to_pylist()):
        places.setdefault(class_id, []).append(i)
    images = {
        class_id: [image["bytes"] for image in table["image"].take(rows[:MAX_IMAGES]).to_pylist()]
        for class_id, rows in list(places.items())[:MAX_CLASSES]
    }
    rows = max(map(len, images.values()))
    first = Image.open(io.BytesIO(next(iter(images.values()))[0]))
    side = min(CELL, max(first.size))
    canvas = Image.new("RGB", (side * len(images), side * rows), "#888888")
    for column, of_class in enumerate(images.values()):
        for row, data in enumerate(of_class):
            image = Image.open(io.BytesIO(data)).convert("RGB")
            if image.size != (side, side):
                image = image.resize((side, side), Image.Resampling.BOX)
            canvas.paste(image, (side * column, side * row))
    buffer = io.BytesIO()
    canvas.save(buffer, "WEBP", lossless=side <= LOSSLESS_SIDE, quality=QUALITY, method=4)
    return [_short(name) for name in images], rows, buffer.getvalue()


def _short(class_id):
    """Return the lemma of a WordNet id, any other class id as it is."""
    return with_name(class_id, "\n").split("\n")[-1]
