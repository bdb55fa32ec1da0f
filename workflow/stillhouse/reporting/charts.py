"""Charts of an experiment: learning curves, accuracy against IPC and bits per class, cost."""

from pathlib import Path

import numpy as np
import pandas as pd

from stillhouse.artifacts import formats, store
from stillhouse.reporting import costs, plotting, table_layout, tables

COST_STYLES = {
    "teacher": ("#0072B2", ""),
    "denoiser": ("#CC79A7", "xx"),
    "distil": ("#D55E00", "//"),
    "label": ("#E69F00", ".."),
    "train": ("#009E73", "\\\\"),
}
BAR_HEIGHT = 0.3  # inches
LETTER_WIDTH = 0.085  # inches
# Markers per curve; fewer on that of the accuracy, which is short.
MARKERS = {"loss": 8, "accuracy": 2}
UNSTORED = "No bits to show: online labels are not stored."
# Images per class as float32 that published budgets are the size of.
BUDGETS = (1, 10, 50)


def charts(inputs, params, outputs):
    """Draw accuracy and cost of one experiment.

    Parameters
    ----------
    inputs : dict
        ``csv``: its table.
    params : dict
        ``cells``: the identity of each cell, in the order of the table.
    outputs : dict
        ``accuracy``, ``rates`` and ``cost``: SVG files.
    """
    frame = table_layout.of_sets(tables.read(inputs["csv"][0], params["cells"]))
    for name, draw in (("accuracy", accuracy), ("rates", rates), ("cost", cost)):
        formats.save_bytes(outputs[name], draw(frame))


def curves(inputs, params, outputs):
    """Draw the learning curves of one experiment.

    Parameters
    ----------
    inputs : dict
    params : dict
        ``cells``: ``method``, ``ipc``, ``protocol``, ``student``, ``distill_seed`` and folder
        (``artifact``) of each.
    outputs : dict
        ``svg``.
    """
    frame = table_layout.of_sets(pd.DataFrame(params["cells"]))
    cells = [store.read_json(Path(folder) / "cell.json") for folder in frame["artifact"]]
    frame = frame.assign(**{name: [cell[name] for cell in cells] for name in ("curve", "accuracy")})
    formats.save_bytes(outputs["svg"], learning(frame))


def learning(frame):
    """Draw training loss and test accuracy over epochs, mean over student seeds.

    Two rows of panels per student, one column per protocol, one line per distilled set.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per cell, with its ``curve`` and ``accuracy`` as in ``cell.json``. Students that
        diverged have no accuracy and are left out.

    Returns
    -------
    bytes
        SVG.
    """
    students, protocols = frame["student"].unique(), frame["protocol"].unique()
    shape = (2 * len(students), len(protocols))
    with plotting.svg_figure(*shape, sharex="col") as (figure, axes, buffer):
        for row, student in enumerate(students):
            for column, protocol in enumerate(protocols):
                loss, score = axes[2 * row : 2 * row + 2, column]
                part = frame[(frame["student"] == student) & (frame["protocol"] == protocol)]
                _draw_curves(loss, score, part, frame)
                plotting.title(loss, f"{protocol}, student {student}{_left_out(part)}", "")
                plotting.title(score, "", "epoch")
                loss.set(ylabel="training loss", yscale="log")
                score.set(ylabel="test accuracy [%]")
        plotting.legend(figure, axes)
    return buffer.getvalue()


def _draw_curves(loss_axis, score_axis, cells, frame):
    """Draw loss and accuracy of every set, both with the markers that identify it."""
    names, styles = table_layout.set_names(frame), plotting.line_styles(frame, "ipc")
    keys, cells = ["method", "distill_seed", "ipc"], cells[cells["accuracy"].notna()]
    for (method, seed, ipc), of_seeds in cells.groupby(keys, sort=False)["curve"]:
        style = styles[method, seed, ipc] | {"linewidth": 1, "markersize": 5}
        style["label"] = f"{names[method, seed]}, IPC {ipc}"
        loss = np.mean([[row["loss"] for row in curve] for curve in of_seeds], axis=0)
        epochs = np.arange(1, len(loss) + 1)
        loss_axis.plot(epochs, loss, markevery=-(-len(loss) // MARKERS["loss"]), **style)
        tested = [row["epoch"] for row in of_seeds.iloc[0] if "accuracy" in row]
        scores = [[row["accuracy"] for row in curve if "accuracy" in row] for curve in of_seeds]
        every = -(-len(tested) // MARKERS["accuracy"])
        score_axis.plot(tested, np.mean(scores, axis=0), markevery=every, **style)


def _left_out(cells):
    """Return the addition to a panel's title for the students that diverged."""
    count = int(cells["accuracy"].isna().sum())
    return f" ({count} of {len(cells)} diverged, left out)" if count else ""


def accuracy(frame):
    """Draw accuracy against images per class; one row per student, one column per protocol.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read`.

    Returns
    -------
    bytes
        SVG. The reported accuracy with error bars of one standard deviation (n - 1) over student
        seeds; hollow markers are published numbers.
    """
    students, protocols = frame["student"].unique(), frame["protocol"].unique()
    shape = (len(students), len(protocols))
    with plotting.svg_figure(*shape, sharex=True, sharey="row") as (figure, axes, buffer):
        for (row, column), axis in np.ndenumerate(axes):
            student, protocol = students[row], protocols[column]
            part = frame[(frame["student"] == student) & (frame["protocol"] == protocol)]
            _draw_lines(axis, part, frame, part["ipc"])
            _draw_published(axis, part, frame)
            ticks = sorted(frame["ipc"].unique())
            name = f"{protocol}, student {student}{_left_out(part)}"
            plotting.title(axis, name, "images per class")
            axis.set_xscale("log")
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.set_xticks([], minor=True)
            axis.margins(x=0.1)
        _finish(figure, axes)
    return buffer.getvalue()


def rates(frame):
    """Draw accuracy against bits per class: of the images, and of the images with their labels.

    Two rows of panels per student, one column per protocol, one line per method over IPC, as in
    Figure 1 of the rate-utility paper. `frame` and result as for `accuracy`. Points without
    ``label_bits_per_class`` are left out of the row that counts them. The grey steps are the
    highest accuracy of all sets of at most so many bits. Vertical lines are budgets, where they
    lie between the points.
    """
    images, labels = frame["image_bits_per_class"], frame["label_bits_per_class"]
    kilobits = {"images": images / 1000, "images and labels": (images + labels) / 1000}
    students, protocols = frame["student"].unique(), frame["protocol"].unique()
    rows = [(student, counted) for student in students for counted in kilobits]
    with plotting.svg_figure(len(rows), len(protocols), sharex="row", sharey="row") as (
        figure,
        axes,
        buffer,
    ):
        for (row, column), axis in np.ndenumerate(axes):
            (student, counted), protocol = rows[row], protocols[column]
            x = kilobits[counted][frame["student"] == student].dropna()
            part = frame.loc[x.index[frame["protocol"][x.index] == protocol]]
            _draw_lines(axis, part, frame, x[part.index])
            if part.empty:
                plotting.annotate(axis, UNSTORED)
            else:
                _draw_frontier(axis, part, x)
                _draw_budgets(axis, frame["resolution"].iloc[0], x)
            name = f"{protocol}, student {student}: {counted}{_left_out(part)}"
            plotting.title(axis, name, "kbit per class")
            if len(x):
                plotting.log_ticks(axis, x.min(), x.max())
        _finish(figure, axes)
    return buffer.getvalue()


def _draw_frontier(axis, cells, x):
    """Draw the highest mean accuracy of all sets of at most so many bits, as grey steps."""
    values = cells.assign(x=x[cells.index], reported=table_layout.reported_accuracy(cells))
    sets = values.groupby(["method", "distill_seed", "ipc"], sort=False)
    points = sets.agg(x=("x", "first"), mean=("reported", "mean")).sort_values("x")
    places, heights = [*points["x"], x.max()], [*points["mean"].cummax(), points["mean"].max()]
    plotting.frontier(axis, places, heights)


def _draw_budgets(axis, resolution, x):
    """Draw published budgets that lie within the bits per class of a row, as vertical lines."""
    for ipc in BUDGETS:
        bits = costs.raw_bits_per_class(resolution, ipc)
        if x.min() <= bits / 1000 <= x.max():
            size = bits / 8 / 1024
            text = f"{size:.3g} KiB" if size < 1000 else f"{size:,.0f} KiB"
            plotting.vertical_line(axis, bits / 1000, text)


def _draw_lines(axis, cells, frame, x):
    """Draw a line with error bars per method and distill seed."""
    values = cells.assign(x=x, reported=table_layout.reported_accuracy(cells))
    names, styles = table_layout.set_names(frame), plotting.line_styles(frame, "distill_seed")
    for (method, seed), of_sets in values.groupby(["method", "distill_seed"], sort=False):
        points = of_sets.groupby("ipc").agg(
            x=("x", "first"),
            mean=("reported", "mean"),
            std=("reported", "std"),
        )
        style = styles[method, seed, seed] | {"capsize": 3, "label": names[method, seed]}
        axis.errorbar(points["x"], points["mean"], points["std"], **style)


def _draw_published(axis, cells, frame):
    """Draw published numbers as hollow markers of their method, with one legend entry for all."""
    hollow = {"linestyle": "", "markerfacecolor": "white", "markersize": 9}
    styles, seed = plotting.line_styles(frame, "distill_seed"), frame["distill_seed"].iloc[0]
    published = cells.dropna(subset="published").drop_duplicates(["method", "ipc"])
    for method, points in published.groupby("method", sort=False):
        axis.plot(points["ipc"], points["published"], **styles[method, seed, seed] | hollow)
    if len(published):
        axis.plot([], [], marker="o", color="black", label=plotting.PUBLISHED, **hollow)


def cost(frame):
    """Draw compute time as stacked bars of seconds, one bar per set, protocol and student.

    `frame` and result as for `accuracy`. A part whose timing is missing has no length, and the
    total is marked as incomplete.
    """
    bars = table_layout.costs(frame)
    bar_names = _bar_names(bars, frame)
    width = plotting.PANEL[0] + LETTER_WIDTH * max(map(len, bar_names))
    panel = (width, BAR_HEIGHT * len(bars) + 0.8)
    with plotting.svg_figure(1, 1, panel) as (figure, axes, buffer):
        axis, left = axes[0, 0], np.zeros(len(bars))
        for name, lengths in bars.fillna(0.0).items():
            colour, hatch = COST_STYLES[name]
            style = {"color": colour, "edgecolor": "white", "hatch": hatch, "linewidth": 0.5}
            axis.barh(range(len(bars)), lengths, left=left, label=name, **style)
            left = left + lengths.to_numpy()
        for y, (total, incomplete) in enumerate(zip(left, bars.isna().any(axis=1), strict=True)):
            text = f" {total:.1f}" + (" and more" if incomplete else "")
            axis.text(total, y, text, va="center", fontsize="small")
        axis.set_yticks(range(len(bars)), bar_names)
        axis.set_xlabel("seconds, as if computed alone")
        axis.grid(False, axis="y")
        axis.set_ylim(len(bars) - 0.4, -0.6)
        axis.set_xlim(0, 1.15 * left.max() or 1)
        plotting.legend(figure, axes)
    return buffer.getvalue()


def _bar_names(bars, frame):
    names, several = table_layout.set_names(frame), frame["student"].nunique() > 1
    return [
        f"{names[method, seed]}, IPC {ipc}, {protocol}" + (f", {student}" if several else "")
        for student, method, seed, ipc, protocol in bars.index
    ]


def _finish(figure, axes):
    for axis in axes[:, 0]:
        axis.set_ylabel("test accuracy [%]")
    plotting.legend(figure, axes)
