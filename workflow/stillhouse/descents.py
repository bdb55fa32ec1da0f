"""How images were synthesised, as pictures: from start to end, and the terms of the loss."""

from PIL import Image

from stillhouse import artifacts, figures, panels
from stillhouse.synthesis import pictured


def descents(inputs, params, outputs):
    """Draw a batch of images on its way, a row a time, and the loss's terms over the iterations.

    Parameters
    ----------
    inputs : dict
        ``pictures`` (``pictures.safetensors``) and ``curve`` (``curve.json``) of one batch.
    params : dict
        ``title``.
    outputs : dict
        ``png`` and ``svg``.
    """
    (path,), (curve,) = inputs["pictures"], inputs["curve"]
    count = artifacts.read_spec(path.parent)["settings"]["iterations"]
    found = artifacts.read_tensors(path)["pictures"].permute(0, 1, 3, 4, 2).numpy()
    size = (figures.CELL, figures.CELL)
    rows = [
        figures.Row(f"{done}", [figures.scaled(Image.fromarray(one), size) for one in images])
        for done, images in zip(pictured(count), found, strict=True)
    ]
    artifacts.save_bytes(outputs["png"], figures.sheet(params["title"], rows))
    artifacts.save_bytes(outputs["svg"], terms(artifacts.read_json(curve), count, params["title"]))


def terms(curve, count, title):
    """Draw the loss's terms, as weighted, over `count` iterations, on a logarithmic scale."""
    with panels.drawing(1, 1) as (figure, axes, out):
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
                color=panels.COLOURS[i % len(panels.COLOURS)],
                linestyle=panels.STROKES[i % len(panels.STROKES)],
            )
        axis.set_yscale("log")
        axis.set_ylabel("term of the loss, weighted")
        panels.title(axis, title, "iteration")
        panels.legend(figure, axes)
    return out.getvalue()
