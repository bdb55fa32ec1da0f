"""Progress of a synthesis: snapshots of its images, and the loss terms over the iterations."""

from pathlib import Path

from stillhouse.artifacts import formats, store
from stillhouse.data.codecs import open_image
from stillhouse.reporting import contact_sheets, plotting


def synthesis_progress(inputs, params, outputs):
    """Draw the snapshots of a batch, one row per time, and its loss terms over the iterations.

    Parameters
    ----------
    inputs : dict
    params : dict
        ``title``; ``files``: ``synthesis``, the files of one batch by its number.
    outputs : dict
        ``png``: the snapshots; ``svg``: the loss terms.
    """
    (path,) = map(Path, params["files"]["synthesis"].values())
    iterations = store.read_spec(path.parent)["settings"]["iterations"]
    sheet = snapshot_sheet(path.with_name("snapshots.parquet"), params["title"])
    formats.save_bytes(outputs["png"], sheet)
    curve = store.read_json(path.with_name("curve.json"))
    formats.save_bytes(outputs["svg"], loss_terms(curve, iterations, params["title"]))


def snapshot_sheet(path, title):
    """Draw the snapshots of an optimisation, one row per time; return a PNG as bytes."""
    snapshots = {}
    for row in store.read_table(path).to_pylist():
        image = open_image(row["image"]["bytes"])
        scaled = contact_sheets.scaled(image, (contact_sheets.CELL, contact_sheets.CELL))
        snapshots.setdefault(row["iteration"], []).append(scaled)
    rows = [contact_sheets.Row(f"{done}", images) for done, images in snapshots.items()]
    return contact_sheets.sheet(title, rows)


def interval_ends(n_points, iterations):
    """Return the last iteration of each point of a curve."""
    length = -(-iterations // n_points)
    return [min((i + 1) * length, iterations) for i in range(n_points)]


def loss_terms(curve, iterations, title):
    """Draw the weighted loss terms over the iterations, on a logarithmic scale.

    Parameters
    ----------
    curve : dict of str to list of (float or None)
        Means over equally long stretches of the iterations; None where a term was not computed.
    iterations : int
    title : str

    Returns
    -------
    bytes
        SVG.
    """
    with plotting.svg_figure(1, 1) as (figure, axes, buffer):
        axis = axes[0, 0]
        terms = [(name, values) for name, values in sorted(curve.items()) if any(values)]
        for i, (name, values) in enumerate(terms):
            ends = interval_ends(len(values), iterations)
            points = [(end, value) for end, value in zip(ends, values, strict=True) if value]
            axis.plot(
                *zip(*points, strict=True),
                label=name.replace("_", " "),
                color=plotting.COLOURS[i % len(plotting.COLOURS)],
                linestyle=plotting.STROKES[i % len(plotting.STROKES)],
            )
        axis.set_yscale("log")
        axis.set_ylabel("weighted loss term")
        plotting.title(axis, title, "iteration")
        plotting.legend(figure, axes)
    return buffer.getvalue()
