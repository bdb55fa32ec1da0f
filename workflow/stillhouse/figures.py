"""Contact sheets of distilled sets."""

import io

from PIL import Image, ImageDraw, ImageFont

from stillhouse import artifacts

CELL = 64
MARGIN = 4
TEXT = 14
MOST_CLASSES = 20
MOST_IMAGES = 10


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
    table = artifacts.read_table(inputs["set"][0])
    rows = {}
    for row in table.to_pylist():
        rows.setdefault(row["class_id"], []).append(row["image"]["bytes"])
    rows = dict(list(rows.items())[:MOST_CLASSES])
    font = ImageFont.load_default(TEXT)
    names = max(font.getlength(name) for name in rows)
    left, top = int(names) + 3 * MARGIN, TEXT + 3 * MARGIN
    columns = min(max(map(len, rows.values())), MOST_IMAGES)
    width = max(left + columns * (CELL + MARGIN), int(font.getlength(params["title"])) + 2 * MARGIN)
    sheet = Image.new("RGB", (width, top + len(rows) * (CELL + MARGIN)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), params["title"], fill="black", font=font)
    for y, (name, images) in enumerate(rows.items()):
        place = top + y * (CELL + MARGIN)
        draw.text((MARGIN, place + (CELL - TEXT) // 2), name, fill="black", font=font)
        for x, data in enumerate(images[:MOST_IMAGES]):
            image = Image.open(io.BytesIO(data)).convert("RGB")
            scaling = Image.Resampling.NEAREST if image.width <= CELL else Image.Resampling.BOX
            sheet.paste(image.resize((CELL, CELL), scaling), (left + x * (CELL + MARGIN), place))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    artifacts.save_bytes(outputs["png"], buffer.getvalue())
