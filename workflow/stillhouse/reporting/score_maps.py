"""What a denoiser says of images, as pictures: class scores laid over them, and their clusters.

Clusters a row each, as in Figure 3 of Zhong et al., "Efficient dataset distillation via
diffusion-driven patch selection for improved generalization" (arXiv 2412.09959).
"""

import numpy as np
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import class_of
from stillhouse.data.boxes import region_of
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.reporting import contact_sheets

CELL = 96  # px, of a heat map
SHOWN_CLUSTERS = 10
# Blue and vermilion of Okabe and Ito: told apart by the colour-blind too.
NEGATIVE, POSITIVE = (0, 114, 178), (213, 94, 0)
STRENGTH = 0.85  # how much of the picture the largest score hides
QUANTILE = 0.99  # of all places, not to have one of them take all the colour
BAR = (160, 14)  # px, of the legend
# What black and white of a picture become: on black, colours would not be seen.
DARK, LIGHT = 96.0, 255.0
EXPLAINED = "loss without the class - loss with it (orange: typical of the class)"


def heat_maps(inputs, params, outputs):
    """Draw score maps over the images that they are of: a row a class, best first.

    Parameters
    ----------
    inputs : dict
        ``scores`` (``scores.parquet``) and ``images`` (``images.parquet``), a file a class.
    params : dict
        ``title``; ``roots``: root by source, for images that are kept by reference.
    outputs : dict
        ``png``. Colours share one scale, symmetric around zero; a box is around the patch that was
        chosen, where it is not all that was scored.
    """
    images = {class_of(path): path for path in inputs["images"]}
    found = {}
    for path in inputs["scores"]:
        class_id = class_of(path)
        found[class_id] = _scored(path, images[class_id], params["roots"])
    limit = _limit([scores for views in found.values() for _, scores, _ in views])
    rows = [
        contact_sheets.Row(class_id, [heated(*view, limit) for view in views])
        for class_id, views in found.items()
    ]
    png = contact_sheets.sheet(params["title"], rows, CELL, _legend(limit))
    store.save_bytes(outputs["png"], png)


def _scored(path, images, roots):
    """Return (picture, score map, box or None) of a class's best images, best first.

    Picture and box are of the region that was scored, reduced to a cell.
    """
    latents = store.read_spec(path.parent)["upstream"]["latents"]["settings"]
    table = store.read_table(path)
    table = table.filter(pc.is_valid(table["map"])).sort_by([("score", "descending")])
    rows, views = read_class(images, "train", roots), []
    for row in table.slice(0, contact_sheets.MOST_IMAGES).to_pylist():
        pixels = decode(rows.read(row["image_id"]), row["image_id"])
        region = region_of(latents["shape"], *pixels.shape[1:])
        box = np.array([row[name] for name in ("top", "left", "height", "width")])
        picture, scale = _fitted(pixels, region, CELL)
        box = None if (box == region).all() else (box - [*region[:2], 0, 0]) * scale
        scores = np.array(row["map"], np.float32).reshape(row["map_height"], -1)
        views.append((picture, scores, box))
    return views


def _fitted(pixels, region, cell):
    """Return a region of (3, height, width) pixels as a picture that fits a cell, and its scale."""
    top, left, height, width = region
    part = pixels[:, top : top + height, left : left + width].transpose(1, 2, 0)
    scale = cell / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return contact_sheets.scaled(Image.fromarray(np.ascontiguousarray(part)), size), scale


def _limit(maps):
    """Return the score at which colours end; positive whatever the maps are."""
    values = np.abs(np.concatenate([one.ravel() for one in maps])) if maps else np.zeros(1)
    return float(np.quantile(values, QUANTILE)) or float(values.max()) or 1.0


def heated(picture, scores, box, limit):
    """Lay a score map over a picture.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB; its own colours are taken from it.
    scores : (h, w) float32
        Brought to the picture's size.
    box : (top, left, height, width) or None
        To be outlined [px of the picture].
    limit : float
        The score at which colours end. A score of zero leaves the picture grey.

    Returns
    -------
    PIL.Image.Image
        RGB, `CELL` x `CELL`, the picture in its middle.
    """
    grey = np.asarray(picture.convert("L"), np.float64)[:, :, None] / 255
    grey = DARK + (LIGHT - DARK) * grey
    spread = Image.fromarray(scores.astype(np.float32)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    over = Image.fromarray(_coloured(grey, np.asarray(spread, np.float64) / limit))
    if box is not None:
        top, left, height, width = np.rint(box).astype(int)
        corners = [left, top, left + width - 1, top + height - 1]
        draw = ImageDraw.Draw(over)
        draw.rectangle(corners, outline="white", width=3)
        draw.rectangle([corners[0] + 1, top + 1, corners[2] - 1, corners[3] - 1], outline="black")
    return _framed(over, CELL)


def _coloured(grey, scores):
    """Blend (h, w, 1) grey with colours by the sign of (h, w) scores, by their size up to 1."""
    colour = np.where((scores < 0)[:, :, None], NEGATIVE, POSITIVE)
    alpha = STRENGTH * np.minimum(np.abs(scores), 1)[:, :, None]
    return np.rint((1 - alpha) * grey + alpha * colour).astype(np.uint8)


def _framed(picture, cell):
    """Put a picture into the middle of a white cell."""
    frame = Image.new("RGB", (cell, cell), "white")
    frame.paste(picture, ((cell - picture.width) // 2, (cell - picture.height) // 2))
    return frame


def _legend(limit):
    """Return the bar of colours between its ends, and what they mean."""
    font, gap = ImageFont.load_default(contact_sheets.TEXT), contact_sheets.MARGIN
    left, right = f"-{limit:.2g}", f"+{limit:.2g}: {EXPLAINED}"
    start = int(font.getlength(left)) + gap
    end = start + BAR[0] + gap
    size = end + int(font.getlength(right)) + gap, contact_sheets.TEXT + gap
    legend = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(legend)
    draw.text((0, 0), left, fill="black", font=font)
    draw.text((end, 0), right, fill="black", font=font)
    scores = np.broadcast_to(np.linspace(-1, 1, BAR[0]), BAR[::-1])
    bar = _coloured(np.full((*scores.shape, 1), LIGHT), scores)
    legend.paste(Image.fromarray(bar), (start, 2))
    return legend


def cluster_sheet(inputs, params, outputs):
    """Draw the clusters of some classes: a row a cluster, the best ten first.

    Parameters
    ----------
    inputs : dict
        ``clusters`` (``clusters.parquet``) and ``images`` (``images.parquet``), a file a class.
    params : dict
        ``title``, ``roots`` as for `heat_maps`.
    outputs : dict
        ``png``. Of a cluster its patches nearest to the centroid; at its left the median of its
        scores and its size.
    """
    images = {class_of(path): path for path in inputs["images"]}
    rows = []
    for path in inputs["clusters"]:
        class_id = class_of(path)
        rows += _cluster_rows(class_id, path, images[class_id], params["roots"])
    store.save_bytes(outputs["png"], contact_sheets.sheet(params["title"], rows))


def _cluster_rows(class_id, path, images, roots):
    """Return the heading and the rows of one class."""
    order = [("cluster_rank", "ascending"), ("rank", "ascending")]
    clusters = {}
    for patch in store.read_table(path).sort_by(order).to_pylist():
        clusters.setdefault(patch["cluster_rank"], []).append(patch)
    total = sum(map(len, clusters.values()))
    shown = min(len(clusters), SHOWN_CLUSTERS)
    heading = f"class {class_id}: {shown} of {len(clusters)} clusters of {total} images"
    found, rows = read_class(images, "train", roots), [contact_sheets.Row(heading, [])]
    for patches in list(clusters.values())[:shown]:
        median = np.median([patch["score"] for patch in patches])
        pictures = [_patch(found, patch) for patch in patches[: contact_sheets.MOST_IMAGES]]
        size = f"{len(patches)} image{'s' * (len(patches) > 1)}"
        rows.append(contact_sheets.Row(f"{median:+.2g}\n{size}", pictures))
    return rows


def _patch(images, patch):
    pixels = decode(images.read(patch["image_id"]), patch["image_id"])
    region = [patch[name] for name in ("top", "left", "height", "width")]
    return _framed(_fitted(pixels, region, contact_sheets.CELL)[0], contact_sheets.CELL)
