"""Charts of the page: accuracy against IPC, bytes and time, learning curves, compute time."""

from pathlib import Path

import numpy as np
import pandas as pd

from stillhouse.artifacts import store
from stillhouse.reporting import plotting, table_layout
from stillhouse.reporting.page import drawing, leaderboards, scales

MOST_POINTS = 50  # of a learning curve
AGAINST = {
    "ipc": ("Images per class", "images per class"),
    "n_bytes": ("Bytes", "images and labels"),
    "seconds": ("Time", "compute time of the full lineage"),
}


def styles(frame):
    """Return {method: class of the page's style}, see `plotting.method_numbers`."""
    numbers = plotting.method_numbers(frame)
    return {
        method: "baseline" if number is None else f"m{number % len(plotting.COLOURS)}"
        for method, number in numbers.items()
    }


def front(places, heights):
    """Return the Pareto front: the points that no other exceeds at the same x or less, by x.

    Parameters
    ----------
    places, heights : sequence of float
    """
    points = []
    for place, height in sorted(zip(places, heights, strict=True), key=lambda p: (p[0], -p[1])):
        if not points or height > points[-1][1]:
            points.append((place, height))
    return points


def accuracy_panels(frame):
    """Return the charts of accuracy, one per student, protocol and quantity of `AGAINST`.

    Returns
    -------
    list of dict
        ``title``, ``student``, ``protocol`` and ``svg``, None where nothing can be drawn.
    """
    values = leaderboards.totals(frame).reset_index()
    return [
        {
            "title": f"{protocol}: {AGAINST[quantity][0].lower()}",
            "student": student,
            "protocol": protocol,
            "svg": _accuracy(part, quantity, frame),
        }
        for (student, protocol), part in values.groupby(["student", "protocol"], sort=False)
        for quantity in AGAINST
    ]


def _accuracy(values, quantity, frame):
    """Draw accuracy against a quantity: one line per method and distill seed, over IPC."""
    values = values.dropna(subset=["mean", quantity])
    values = values[values[quantity] > 0]
    if values.empty:
        return None
    names, style = table_layout.set_names(frame), styles(frame)
    texts = {"ipc": lambda _: "", "n_bytes": scales.byte_text, "seconds": scales.second_text}
    series = []
    for (method, seed), rows in values.groupby(["method", "distill_seed"], sort=False):
        name, points, hollow = names[method, seed], [], []
        for row in rows.sort_values("ipc").to_dict("records"):
            text = f"{name}, IPC {row['ipc']}: {row['mean']:.1f} %"
            size = texts[quantity](row[quantity])
            points.append((row[quantity], row["mean"], row["std"], f"{text}, {size}".strip(", ")))
            if quantity == "ipc" and pd.notna(row["published"]):
                published = f"{name}, IPC {row['ipc']}: published {row['published']:.1f} %"
                hollow.append((row["ipc"], row["published"], published))
        series.append(drawing.Series(name, method, style[method], points, hollow))
    ticks = {
        "ipc": lambda scale: scales.thinned(
            [(ipc, str(ipc)) for ipc in sorted(set(values["ipc"]))], scale, gap=20
        ),
        "n_bytes": scales.byte_ticks,
        "seconds": scales.second_ticks,
    }
    steps = () if quantity == "ipc" else front(values[quantity], values["mean"])
    label = AGAINST[quantity][1]
    return drawing.lines(series, label, "accuracy [%]", ticks[quantity], front=steps)


def curve_panels(frame):
    """Return the learning curves, loss and accuracy per student, protocol and IPC.

    `frame` has ``artifact``, the folder of each student. Result as for `accuracy_panels`, with
    ``ipc``. Mean over the students that did not diverge.
    """
    paths = [Path(folder) / "cell.json" for folder in frame["artifact"]]
    frame = frame.assign(curve=[store.read_json(path)["curve"] for path in paths])
    panels = []
    for (student, ipc, protocol), cells in frame.groupby(table_layout.COMPARISON, sort=False):
        for quantity in ("accuracy", "loss"):
            what = "test accuracy" if quantity == "accuracy" else "training loss"
            panels.append(
                {
                    "title": f"{protocol}, IPC {ipc}: {what}",
                    "student": student,
                    "protocol": protocol,
                    "ipc": ipc,
                    "svg": _curves(cells, quantity, frame),
                }
            )
    return panels


def _curves(cells, quantity, frame):
    names, style = table_layout.set_names(frame), styles(frame)
    series = []
    for (method, seed), of_set in cells.groupby(["method", "distill_seed"], sort=False):
        points = _mean_curve(of_set.loc[of_set["accuracy"].notna(), "curve"], quantity)
        if points:
            name = names[method, seed]
            series.append(drawing.Series(name, method, style[method], points))
    if not series:
        return None
    log = quantity == "loss"
    label = "training loss" if log else "accuracy [%]"
    return drawing.lines(
        series, "epoch", label, scales.linear_ticks, log_x=False, log_y=log, dots=False
    )


def _mean_curve(curves, quantity):
    """Return (epoch, mean over students, 0, "") of a quantity; at most `MOST_POINTS` points."""
    rows = [[row for row in curve if row.get(quantity) is not None] for curve in curves]
    if not rows or not rows[0]:
        return []
    means = np.mean([[row[quantity] for row in of_one] for of_one in rows], axis=0)
    if quantity == "loss":
        means = np.maximum(means, 1e-6)  # of a logarithmic axis
    steps = np.unique(np.linspace(0, len(means) - 1, MOST_POINTS).round().astype(int))
    return [(rows[0][i]["epoch"], float(means[i]), 0, "") for i in steps]


def cost_panels(frame):
    """Return the charts of compute time, one per student, IPC and protocol.

    Result as for `curve_panels`. A part whose timing is missing has no length, and the total is
    marked with "+".
    """
    seconds, panels = table_layout.costs(frame), []
    names = table_layout.set_names(frame)
    for (student, ipc, protocol), part in seconds.groupby(table_layout.COMPARISON, sort=False):
        rows = []
        for (_, method, seed, _, _), row in part.iterrows():
            text = scales.second_text(row.sum()) + (" +" if row.isna().any() else "")
            name = names[method, seed]
            rows.append((name, method, row.fillna(0).tolist(), text))
        panels.append(
            {
                "title": f"{protocol}, IPC {ipc}",
                "student": student,
                "protocol": protocol,
                "ipc": ipc,
                "svg": drawing.bars(rows, list(seconds)),
            }
        )
    return panels
