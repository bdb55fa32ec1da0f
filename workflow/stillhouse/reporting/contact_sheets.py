"""Contact sheets: named rows of small images, of distilled sets among others."""

import io
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from stillhouse.artifacts import formats, store
from stillhouse.data.codecs import open_image
from stillhouse.data.sources.class_names import with_name

CELL = 64  # px
MARGIN = 4  # px
TEXT = 14  # px
MAX_CLASSES = 20
MAX_IMAGES = 10


@dataclass(frozen=True)
class Row:
    """A row of a sheet.

    Parameters
    ----------
    name : str
        Text at the left, of one or more lines; a row without images is a heading.
    images : list of PIL.Image.Image
        Each as wide and as high as the sheet's cells.
    """

    name: str
    images: list


def contact_sheet(inputs, params, outputs):
    """Draw a distilled set: one row per class (the first 20), its first 10 images, rescaled.

    Parameters
    ----------
    inputs : dict
        ``set``: an ``images.parquet``.
    params : dict
        ``title``.
    outputs : dict
        ``png``.
    """
    rows = [
        Row(with_name(class_id, "\n"), [scaled(image, (CELL, CELL)) for image in images])
        for class_id, images in first_images(inputs["set"][0]).items()
    ]
    formats.save_bytes(outputs["png"], sheet(params["title"], rows))


def first_images(path):
    """Return the first `MAX_IMAGES` RGB images of the first `MAX_CLASSES` classes of a set.

    Returns
    -------
    dict of str to list of PIL.Image.Image
        By class id.
    """
    table, places = store.read_table(path, columns=["image", "class_id"]), {}
    for i, class_id in enumerate(table["class_id"].to_pylist()):
        places.setdefault(class_id, []).append(i)
    images = {}
    for class_id, rows in list(places.items())[:MAX_CLASSES]:
        encoded = table["image"].take(rows[:MAX_IMAGES]).to_pylist()
        images[class_id] = [open_image(one["bytes"]).convert("RGB") for one in encoded]
    return images


def scaled(image, size):
    """Resize an image to (width, height): enlarged by nearest neighbour, reduced by averaging."""
    small = image.width <= size[0]
    return image.resize(size, Image.Resampling.NEAREST if small else Image.Resampling.BOX)


def sheet(title, rows, cell=CELL, legend=None):
    """Draw rows of images below a title.

    Parameters
    ----------
    title : str
    rows : list of Row
        At least one.
    cell : int
        Width and height of all images [px].
    legend : PIL.Image.Image, optional
        Drawn between title and rows.

    Returns
    -------
    bytes
        PNG.
    """
    font = ImageFont.load_default(TEXT)
    left, width = _widths(title, rows, cell, legend, font)
    top = TEXT + 3 * MARGIN + (legend.height + MARGIN if legend else 0)
    heights = [cell + MARGIN if row.images else TEXT + 2 * MARGIN for row in rows]
    canvas = Image.new("RGB", (width, top + sum(heights)), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN), title, fill="black", font=font)
    if legend:
        canvas.paste(legend, (MARGIN, TEXT + 3 * MARGIN))
    for row, height in zip(rows, heights, strict=True):
        offset = (height - MARGIN - TEXT * (row.name.count("\n") + 1)) // 2
        draw.multiline_text((MARGIN, top + offset), row.name, fill="black", font=font, spacing=0)
        for column, image in enumerate(row.images):
            canvas.paste(image, (left + column * (cell + MARGIN), top))
        top += height
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _widths(title, rows, cell, legend, font):
    """Return the left edge of the images and the width of a sheet [px]."""
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    names = [line for row in rows if row.images for line in row.name.split("\n")]
    left = int(max((ruler.textlength(name, font) for name in names), default=0)) + 3 * MARGIN
    headings = [title] + [row.name for row in rows if not row.images]
    width = max(
        left + max(len(row.images) for row in rows) * (cell + MARGIN),
        max(int(font.getlength(text)) for text in headings) + 2 * MARGIN,
        legend.width + 2 * MARGIN if legend else 0,
    )
    return left, width
