"""Contact sheets: rows of small pictures with a name, of distilled sets among others."""

import io
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from stillhouse.artifacts import store

CELL = 64  # px
MARGIN = 4
TEXT = 14
MOST_CLASSES = 20
MOST_IMAGES = 10


@dataclass(frozen=True)
class Row:
    """A row of a sheet.

    Parameters
    ----------
    name : str
        What stands at its left, of one or more lines; of a row without pictures, its heading.
    pictures : list of PIL.Image.Image
        Each as wide and as high as the sheet's cells.
    """

    name: str
    pictures: list


def contact_sheet(inputs, params, outputs):
    """Draw a distilled set: a row a class (the first 20), its first 10 images, enlarged.

    Parameters
    ----------
    inputs : dict
        ``set``: an ``images.parquet``.
    params : dict
        ``title``.
    outputs : dict
        ``png``.
    """
    table = store.read_table(inputs["set"][0])
    rows = {}
    for row in table.to_pylist():
        rows.setdefault(row["class_id"], []).append(row["image"]["bytes"])
    shown = [
        Row(name, [_square(Image.open(io.BytesIO(data))) for data in images[:MOST_IMAGES]])
        for name, images in list(rows.items())[:MOST_CLASSES]
    ]
    store.save_bytes(outputs["png"], sheet(params["title"], shown))


def _square(image):
    return scaled(image.convert("RGB"), (CELL, CELL))


def scaled(image, size):
    """Return an image in another size (width, height): small ones in squares, large averaged."""
    small = image.width <= size[0]
    return image.resize(size, Image.Resampling.NEAREST if small else Image.Resampling.BOX)


def sheet(title, rows, cell=CELL, legend=None):
    """Draw rows of pictures below a title.

    Parameters
    ----------
    title : str
    rows : list of Row
        At least one.
    cell : int
        Width and height of all pictures [px].
    legend : PIL.Image.Image, optional
        Stands between title and rows.

    Returns
    -------
    bytes
        PNG.
    """
    font = ImageFont.load_default(TEXT)
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    named = [row.name for row in rows if row.pictures]
    left = int(max((ruler.textlength(t, font) for n in named for t in n.split("\n")), default=0))
    left += 3 * MARGIN
    top = TEXT + 3 * MARGIN + (legend.height + MARGIN if legend else 0)
    heights = [cell + MARGIN if row.pictures else TEXT + 2 * MARGIN for row in rows]
    wide = [title] + [row.name for row in rows if not row.pictures]
    width = max(
        left + max(len(row.pictures) for row in rows) * (cell + MARGIN),
        max(int(font.getlength(text)) for text in wide) + 2 * MARGIN,
        legend.width + 2 * MARGIN if legend else 0,
    )
    picture = Image.new("RGB", (width, top + sum(heights)), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), title, fill="black", font=font)
    if legend:
        picture.paste(legend, (MARGIN, TEXT + 3 * MARGIN))
    for row, height in zip(rows, heights, strict=True):
        room = (height - MARGIN - TEXT * (row.name.count("\n") + 1)) // 2
        draw.multiline_text((MARGIN, top + room), row.name, fill="black", font=font, spacing=0)
        for x, one in enumerate(row.pictures):
            picture.paste(one, (left + x * (cell + MARGIN), top))
        top += height
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
