"""Figures: contact sheets of distilled sets, learning curves of an experiment."""

import io
import json

import numpy as np
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


def curves(inputs, params, outputs):
    """Draw training loss and test accuracy over epochs, mean over seeds, a column a protocol.

    Parameters
    ----------
    inputs : dict
        ``cells``: ``cell.json`` files, in the order of ``params["cells"]``.
    params : dict
        ``cells``: ``method``, ``ipc``, ``protocol``, ``student`` and ``distill_seed`` of each.
    outputs : dict
        ``svg``.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    lines = {}
    for identity, path in zip(params["cells"], inputs["cells"], strict=True):
        name = f"{identity['method']}, IPC {identity['ipc']}, {identity['student']}"
        if identity["distill_seed"]:
            name += f", seed {identity['distill_seed']}"
        curve = artifacts.read_json(path)["curve"]
        lines.setdefault(identity["protocol"], {}).setdefault(name, []).append(curve)
    with pyplot.rc_context({"svg.hashsalt": json.dumps(sorted(lines)), "svg.fonttype": "none"}):
        size = (5 * len(lines) + 1, 6)
        figure, axes = pyplot.subplots(2, len(lines), figsize=size, squeeze=False, sharex="col")
        for column, (protocol, by_name) in enumerate(lines.items()):
            _draw_column(axes[:, column], protocol, by_name)
        axes[0, -1].legend(fontsize="small")
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    artifacts.save_bytes(outputs["svg"], buffer.getvalue())


def _draw_column(axes, protocol, by_name):
    for name, of_seeds in by_name.items():
        loss = np.mean([[row["loss"] for row in curve] for curve in of_seeds], axis=0)
        axes[0].plot(np.arange(1, len(loss) + 1), loss, label=name, linewidth=1)
        tested = [row["epoch"] for row in of_seeds[0] if "accuracy" in row]
        accuracy = np.mean(
            [[row["accuracy"] for row in curve if "accuracy" in row] for curve in of_seeds], axis=0
        )
        axes[1].plot(tested, accuracy, marker=".", label=name, linewidth=1)
    axes[0].set(title=protocol, ylabel="training loss", yscale="log")
    axes[1].set(xlabel="epoch", ylabel="test accuracy [%]")
