"""Charts of an experiment: learning curves, accuracy against IPC and bytes, cost."""

import numpy as np
import pandas as pd

from stillhouse.artifacts import store
from stillhouse.reporting import plotting, table_layout, tables

FILLS = {
    "teacher": ("#0072B2", ""),
    "denoiser": ("#CC79A7", "xx"),
    "distil": ("#D55E00", "//"),
    "label": ("#E69F00", ".."),
    "train": ("#009E73", "\\\\"),
}
BAR = 0.3  # inches
LETTER = 0.085
MARKS = {"loss": 8, "accuracy": 2}  # of a curve, as that of the accuracy is short
UNSTORED = "No bytes to show: labels that are made online are never stored."


def charts(inputs, params, outputs):
    """Draw accuracy and cost of one experiment.

    Parameters
    ----------
    inputs : dict
        ``csv``: its table.
    params : dict
        ``cells``: the identity of each cell, in the order of the table.
    outputs : dict
        ``accuracy``, ``bytes`` and ``cost``: SVG files.
    """
    frame = tables.read(inputs["csv"][0], params["cells"])
    for name, draw in (("accuracy", accuracy), ("bytes", size), ("cost", cost)):
        store.save_bytes(outputs[name], draw(frame))


def curves(inputs, params, outputs):
    """Draw the learning curves of one experiment.

    Parameters
    ----------
    inputs : dict
        ``cells``: ``cell.json`` files, in the order of ``params["cells"]``.
    params : dict
        ``cells``: ``method``, ``ipc``, ``protocol``, ``student`` and ``distill_seed`` of each.
    outputs : dict
        ``svg``.
    """
    frame = pd.DataFrame(params["cells"])
    frame["curve"] = [store.read_json(path)["curve"] for path in inputs["cells"]]
    store.save_bytes(outputs["svg"], learning(frame))


def learning(frame):
    """Draw training loss and test accuracy over epochs, mean over student seeds.

    Two rows a student, a column a protocol, a line a distilled set.

    Parameters
    ----------
    frame : pandas.DataFrame
        A row a cell, with its ``curve`` as ``cell.json`` has it.

    Returns
    -------
    bytes
        SVG.
    """
    students, protocols = frame["student"].unique(), frame["protocol"].unique()
    shape = (2 * len(students), len(protocols))
    with plotting.drawing(*shape, sharex="col") as (figure, axes, out):
        for row, student in enumerate(students):
            for column, protocol in enumerate(protocols):
                loss, score = axes[2 * row : 2 * row + 2, column]
                part = frame[(frame["student"] == student) & (frame["protocol"] == protocol)]
                _draw_curves(loss, score, part, frame)
                plotting.title(loss, f"{protocol}, student {student}", "")
                plotting.title(score, "", "epoch")
                loss.set(ylabel="training loss", yscale="log")
                score.set(ylabel="test accuracy [%]")
        plotting.legend(figure, axes)
    return out.getvalue()


def _draw_curves(loss_axis, score_axis, cells, frame):
    """Draw two lines a set; what tells them apart is seen on both."""
    names, looks = table_layout.set_names(frame), plotting.looks(frame, "ipc")
    keys = ["method", "distill_seed", "ipc"]
    for (method, seed, ipc), of_seeds in cells.groupby(keys, sort=False)["curve"]:
        look = looks[method, seed, ipc] | {"linewidth": 1, "markersize": 5}
        look["label"] = f"{names[method, seed]}, IPC {ipc}"
        loss = np.mean([[row["loss"] for row in curve] for curve in of_seeds], axis=0)
        epochs = np.arange(1, len(loss) + 1)
        loss_axis.plot(epochs, loss, markevery=-(-len(loss) // MARKS["loss"]), **look)
        tested = [row["epoch"] for row in of_seeds.iloc[0] if "accuracy" in row]
        scores = [[row["accuracy"] for row in curve if "accuracy" in row] for curve in of_seeds]
        every = -(-len(tested) // MARKS["accuracy"])
        score_axis.plot(tested, np.mean(scores, axis=0), markevery=every, **look)


def accuracy(frame):
    """Draw accuracy against images per class; a row a student, a column a protocol.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read`.

    Returns
    -------
    bytes
        SVG. The accuracy is the one that the tables show, its bars one standard deviation (n - 1)
        over student seeds; hollow marks are published.
    """
    students, protocols = frame["student"].unique(), frame["protocol"].unique()
    shape = (len(students), len(protocols))
    with plotting.drawing(*shape, sharex=True, sharey="row") as (figure, axes, out):
        for (row, column), axis in np.ndenumerate(axes):
            student, protocol = students[row], protocols[column]
            part = frame[(frame["student"] == student) & (frame["protocol"] == protocol)]
            _draw_lines(axis, part, frame, part["ipc"])
            _draw_published(axis, part, frame)
            ticks = sorted(frame["ipc"].unique())
            plotting.title(axis, f"{protocol}, student {student}", "images per class")
            axis.set_xscale("log")
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.set_xticks([], minor=True)
            axis.margins(x=0.1)
        _finish(figure, axes)
    return out.getvalue()


def size(frame):
    """Draw accuracy against bytes of a whole set: images alone, and images with their labels.

    A row a student, a line a method and protocol. `frame` and result as for `accuracy`; where
    ``label_bytes`` are missing, points are left out of what counts them.
    """
    alone = frame["image_bytes"] / 1000
    together = alone + frame["label_bytes"] / 1000
    counted = {"images alone": alone, "images and labels": together}
    students, ends = frame["student"].unique(), pd.concat([alone, together])
    with plotting.drawing(len(students), 2, sharex=True, sharey="row") as (figure, axes, out):
        for (row, column), axis in np.ndenumerate(axes):
            name, kilobytes = list(counted.items())[column]
            part = frame[(frame["student"] == students[row]) & kilobytes.notna()]
            for protocol, cells in part.groupby("protocol", sort=False):
                _draw_lines(axis, cells, frame, kilobytes[cells.index], protocol)
            if part.empty:
                plotting.say(axis, UNSTORED)
            plotting.title(axis, f"{name}, student {students[row]}", "kB a set")
            plotting.round_ticks(axis, ends.min(), ends.max())
        _finish(figure, axes)
    return out.getvalue()


def _draw_lines(axis, cells, frame, places, protocol=None):
    """Draw a line for each method and distill seed: means and deviations.

    The stroke tells the protocol where one is named, otherwise the distill seed.
    """
    values = cells.assign(place=places, shown=table_layout.reported(cells))
    names = table_layout.set_names(frame)
    looks = plotting.looks(frame, "protocol" if protocol else "distill_seed")
    for (method, seed), of_sets in values.groupby(["method", "distill_seed"], sort=False):
        points = of_sets.groupby("ipc").agg(
            place=("place", "first"),
            mean=("shown", "mean"),
            std=("shown", "std"),
        )
        look = looks[method, seed, protocol or seed] | {"capsize": 3}
        name = names[method, seed] + (f", {protocol}" if protocol else "")
        axis.errorbar(points["place"], points["mean"], points["std"], label=name, **look)


def _draw_published(axis, cells, frame):
    """Draw published numbers as their method's mark, hollow; one word in the legend for all."""
    hollow = {"linestyle": "", "markerfacecolor": "white", "markersize": 9}
    looks, seed = plotting.looks(frame, "distill_seed"), frame["distill_seed"].iloc[0]
    told = cells.dropna(subset="published").drop_duplicates(["method", "ipc"])
    for method, points in told.groupby("method", sort=False):
        axis.plot(points["ipc"], points["published"], **looks[method, seed, seed] | hollow)
    if len(told):
        axis.plot([], [], marker="o", color="black", label=plotting.PUBLISHED, **hollow)


def cost(frame):
    """Draw what a number costs: stacked bars of seconds, one bar a set, protocol and student.

    `frame` and result as for `accuracy`. A part whose timing is missing has no length, and the
    total says that there is more.
    """
    bars = table_layout.costs(frame)
    bar_names = _bar_names(bars, frame)
    panel = (plotting.PANEL[0] + LETTER * max(map(len, bar_names)), BAR * len(bars) + 0.8)
    with plotting.drawing(1, 1, panel) as (figure, axes, out):
        axis, left = axes[0, 0], np.zeros(len(bars))
        for name, lengths in bars.fillna(0.0).items():
            colour, hatch = FILLS[name]
            look = {"color": colour, "edgecolor": "white", "hatch": hatch, "linewidth": 0.5}
            axis.barh(range(len(bars)), lengths, left=left, label=name, **look)
            left = left + lengths.to_numpy()
        for place, (total, unknown) in enumerate(zip(left, bars.isna().any(axis=1), strict=True)):
            text = f" {total:.1f}" + (" and more" if unknown else "")
            axis.text(total, place, text, va="center", fontsize="small")
        axis.set_yticks(range(len(bars)), bar_names)
        axis.set_xlabel("seconds, as if made alone")
        axis.grid(False, axis="y")
        axis.set_ylim(len(bars) - 0.4, -0.6)
        axis.set_xlim(0, 1.15 * left.max() or 1)
        plotting.legend(figure, axes)
    return out.getvalue()


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
