"""How images were synthesised, as pictures: from start to end, and the terms of the loss."""

import io

from PIL import Image

from stillhouse.artifacts import store
from stillhouse.reporting import contact_sheets, plotting


def descents(inputs, params, outputs):
    """Draw a batch of images on its way, a row a time, and the loss's terms over the iterations.

    Parameters
    ----------
    inputs : dict
        ``pictures`` (``snapshots.parquet``) and ``curve`` (``curve.json``) of one batch.
    params : dict
        ``title``.
    outputs : dict
        ``png`` and ``svg``.
    """
    (path,), (curve,) = inputs["pictures"], inputs["curve"]
    count = store.read_spec(path.parent)["settings"]["iterations"]
    times = {}
    for row in store.read_table(path).to_pylist():
        image = Image.open(io.BytesIO(row["image"]["bytes"]))
        shown = contact_sheets.scaled(image, (contact_sheets.CELL, contact_sheets.CELL))
        times.setdefault(row["iteration"], []).append(shown)
    rows = [contact_sheets.Row(f"{done}", images) for done, images in times.items()]
    store.save_bytes(outputs["png"], contact_sheets.sheet(params["title"], rows))
    store.save_bytes(outputs["svg"], terms(store.read_json(curve), count, params["title"]))


def terms(curve, count, title):
    """Draw the loss's terms, as weighted, over `count` iterations, on a logarithmic scale."""
    with plotting.drawing(1, 1) as (figure, axes, out):
        axis = axes[0, 0]
        shown = [(name, values) for name, values in sorted(curve.items()) if any(values)]
        for i, (name, values) in enumerate(shown):
            every = -(-count // len(values))
            points = [
                (min((j + 1) * every, count), value) for j, value in enumerate(values) if value
            ]
            axis.plot(
                *zip(*points, strict=True),
                label=name.replace("_", " "),
                color=plotting.COLOURS[i % len(plotting.COLOURS)],
                linestyle=plotting.STROKES[i % len(plotting.STROKES)],
            )
        axis.set_yscale("log")
        axis.set_ylabel("term of the loss, weighted")
        plotting.title(axis, title, "iteration")
        plotting.legend(figure, axes)
    return out.getvalue()
