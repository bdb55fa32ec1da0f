"""Figures of DDPS: class scores laid over images, and clusters of patches.

Clusters one per row, as in Figure 3 of Zhong et al., "Efficient dataset distillation via
diffusion-driven patch selection for improved generalization" (arXiv 2412.09959).
"""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from stillhouse.artifacts import formats, store
from stillhouse.data.boxes import region_of
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.sources.class_names import with_name
from stillhouse.reporting import contact_sheets

CELL = 96  # px, of a heat map
MAX_CLUSTERS = 10
# Blue and vermilion of Okabe and Ito, which colour-blind readers can distinguish.
NEGATIVE, POSITIVE = (0, 114, 178), (213, 94, 0)
STRENGTH = 0.85  # opacity of the largest score
QUANTILE = 0.99  # of all scores; otherwise outliers would determine the colour scale
BAR = (160, 14)  # px, of the legend
# Black and white of an image become these: on black, colours would be invisible.
DARK, LIGHT = 96.0, 255.0
EXPLANATION = "loss without the class - loss with it (orange: typical of the class)"


def heat_maps(inputs, params, outputs):
    """Draw score maps over their images: one row per class, the best image first.

    Parameters
    ----------
    inputs : dict
    params : dict
        ``title``; ``files``: ``scores`` (``scores.parquet``) and ``images`` (``images.parquet``) by
        class id; ``source_roots``: root folder by source, for images by reference.
    outputs : dict
        ``png``. Colours share one scale, symmetric around zero; a box is the selected patch, unless
        it covers everything that was scored.
    """
    files = params["files"]
    views = {
        class_id: _scored(Path(path), Path(files["images"][class_id]), params["source_roots"])
        for class_id, path in files["scores"].items()
    }
    limit = _limit([scores for of_class in views.values() for _, scores, _ in of_class])
    rows = [
        contact_sheets.Row(with_name(class_id, "\n"), [heat_map(*view, limit) for view in of_class])
        for class_id, of_class in views.items()
    ]
    png = contact_sheets.sheet(params["title"], rows, CELL, _legend(limit))
    formats.save_bytes(outputs["png"], png)


def _scored(path, images, source_roots):
    """Return (image, score map, box or None) of a class's best images, best first.

    Image and box are of the region that was scored, reduced to a cell.
    """
    latents = store.read_spec(path.parent)["upstream"]["latents"]["settings"]
    table = store.read_table(path)
    table = table.filter(pc.is_valid(table["map"])).sort_by([("score", "descending")])
    class_images, views = read_class(images, "train", source_roots), []
    for row in table.slice(0, contact_sheets.MAX_IMAGES).to_pylist():
        pixels = decode(class_images.read(row["image_id"]), row["image_id"])
        region = region_of(latents["shape"], *pixels.shape[1:])
        box = np.array([row[name] for name in ("top", "left", "height", "width")])
        image, scale = _fitted(pixels, region, CELL)
        box = None if (box == region).all() else (box - [*region[:2], 0, 0]) * scale
        scores = np.array(row["map"], np.float32).reshape(row["map_height"], -1)
        views.append((image, scores, box))
    return views


def _fitted(pixels, region, cell):
    """Return a region of (3, height, width) pixels as an image that fits a cell, and its scale."""
    top, left, height, width = region
    part = pixels[:, top : top + height, left : left + width].transpose(1, 2, 0)
    scale = cell / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return contact_sheets.scaled(Image.fromarray(np.ascontiguousarray(part)), size), scale


def _limit(maps):
    """Return the score at the end of the colour scale, always positive."""
    values = np.abs(np.concatenate([scores.ravel() for scores in maps])) if maps else np.zeros(1)
    return float(np.quantile(values, QUANTILE)) or float(values.max()) or 1.0


def heat_map(image, scores, box, limit):
    """Lay a score map over an image.

    Parameters
    ----------
    image : PIL.Image.Image
        RGB; converted to grey.
    scores : (h, w) float32
        Resized to the image's size.
    box : (top, left, height, width) or None
        Outlined [px of the image].
    limit : float
        The score at the end of the colour scale. A score of zero leaves the image grey.

    Returns
    -------
    PIL.Image.Image
        RGB, `CELL` x `CELL`, the image centred.
    """
    grey = np.asarray(image.convert("L"), np.float64)[:, :, None] / 255
    grey = DARK + (LIGHT - DARK) * grey
    resized = Image.fromarray(scores.astype(np.float32)).resize(
        image.size, Image.Resampling.BILINEAR
    )
    overlay = Image.fromarray(_coloured(grey, np.asarray(resized, np.float64) / limit))
    if box is not None:
        top, left, height, width = np.rint(box).astype(int)
        corners = [left, top, left + width - 1, top + height - 1]
        draw = ImageDraw.Draw(overlay)
        draw.rectangle(corners, outline="white", width=3)
        draw.rectangle([corners[0] + 1, top + 1, corners[2] - 1, corners[3] - 1], outline="black")
    return _framed(overlay, CELL)


def _coloured(grey, scores):
    """Blend (h, w, 1) grey with colours by the sign and size (at most 1) of (h, w) scores."""
    colour = np.where((scores < 0)[:, :, None], NEGATIVE, POSITIVE)
    alpha = STRENGTH * np.minimum(np.abs(scores), 1)[:, :, None]
    return np.rint((1 - alpha) * grey + alpha * colour).astype(np.uint8)


def _framed(image, cell):
    """Centre an image in a white cell."""
    frame = Image.new("RGB", (cell, cell), "white")
    frame.paste(image, ((cell - image.width) // 2, (cell - image.height) // 2))
    return frame


def _legend(limit):
    """Return the colour scale with its ends and their meaning."""
    font, gap = ImageFont.load_default(contact_sheets.TEXT), contact_sheets.MARGIN
    left, right = f"-{limit:.2g}", f"+{limit:.2g}: {EXPLANATION}"
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


def clusters_figure(inputs, params, outputs):
    """Draw the clusters of the first classes: one row per cluster, the best ten first.

    Parameters
    ----------
    inputs : dict
    params : dict
        ``title``; ``files``: ``clusters`` (``clusters.parquet``) and ``images``
        (``images.parquet``) by class id; ``source_roots`` as for `heat_maps`.
    outputs : dict
        ``png``. The patches of a cluster that are nearest to its centroid; at the left the median
        of its scores and its size.
    """
    files, rows = params["files"], []
    for class_id, path in files["clusters"].items():
        class_images = read_class(Path(files["images"][class_id]), "train", params["source_roots"])
        rows += _cluster_rows(class_id, store.read_table(path), class_images)
    formats.save_bytes(outputs["png"], contact_sheets.sheet(params["title"], rows))


def _cluster_rows(class_id, table, class_images):
    """Return the heading and the rows of one class."""
    order = [("cluster_rank", "ascending"), ("rank", "ascending")]
    clusters = {}
    for patch in table.sort_by(order).to_pylist():
        clusters.setdefault(patch["cluster_rank"], []).append(patch)
    total = sum(map(len, clusters.values()))
    drawn = list(clusters.values())[:MAX_CLUSTERS]
    heading = (
        f"class {with_name(class_id)}: {len(drawn)} of {len(clusters)} clusters of {total} images"
    )
    rows = [contact_sheets.Row(heading, [])]
    for patches in drawn:
        median = np.median([patch["score"] for patch in patches])
        images = [_patch(class_images, patch) for patch in patches[: contact_sheets.MAX_IMAGES]]
        size = f"{len(patches)} image{'s' * (len(patches) > 1)}"
        rows.append(contact_sheets.Row(f"{median:+.2g}\n{size}", images))
    return rows


def _patch(class_images, patch):
    pixels = decode(class_images.read(patch["image_id"]), patch["image_id"])
    region = [patch[name] for name in ("top", "left", "height", "width")]
    return _framed(_fitted(pixels, region, contact_sheets.CELL)[0], contact_sheets.CELL)
