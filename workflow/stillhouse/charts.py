"""Charts of an experiment: learning curves, accuracy against IPC and bytes, cost."""

import contextlib
import io
import textwrap

import numpy as np
import pandas as pd

from stillhouse import artifacts, layout, tables

# Okabe and Ito's colours, told apart by the colour-blind too; without their yellow.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
STROKES = ["-", "--", ":", "-."]
FILLS = {
    "teacher": ("#0072B2", ""),
    "denoiser": ("#CC79A7", "xx"),
    "distil": ("#D55E00", "//"),
    "label": ("#E69F00", ".."),
    "train": ("#009E73", "\\\\"),
}
PANEL = (5.0, 3.4)  # inches
BAR = 0.3
LINE = 0.25  # of the legend
LETTER = 0.085
PUBLISHED = "published"
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    # The same bytes every time, and text that stays text.
    "svg.fonttype": "none",
    "svg.hashsalt": "stillhouse",
}


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
        artifacts.save_bytes(outputs[name], draw(frame))


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
    frame = pd.DataFrame(params["cells"])
    frame["curve"] = [artifacts.read_json(path)["curve"] for path in inputs["cells"]]
    protocols = list(frame.groupby("protocol", sort=False))
    with drawing(2, len(protocols), sharex="col") as (figure, axes, out):
        for column, (protocol, cells) in zip(axes.T, protocols, strict=True):
            _draw_column(column, cells, frame)
            _title(column[0], protocol, "")
            column[0].set(ylabel="training loss", yscale="log")
            column[1].set(xlabel="epoch", ylabel="test accuracy [%]")
        _legend(figure, axes)
    artifacts.save_bytes(outputs["svg"], out.getvalue())


def _draw_column(axes, cells, frame):
    names, ipcs = layout.set_names(frame), list(frame["ipc"].unique())
    keys = ["method", "distill_seed", "ipc", "student"]
    for (method, seed, ipc, student), of_seeds in cells.groupby(keys, sort=False)["curve"]:
        look = _look(frame, method, ipcs.index(ipc)) | {"linewidth": 1, "markersize": 3}
        loss = np.mean([[row["loss"] for row in curve] for curve in of_seeds], axis=0)
        name = f"{names[method, seed]}, IPC {ipc}, {student}"
        axes[0].plot(np.arange(1, len(loss) + 1), loss, label=name, **{**look, "marker": ""})
        tested = [row["epoch"] for row in of_seeds.iloc[0] if "accuracy" in row]
        scores = [[row["accuracy"] for row in curve if "accuracy" in row] for curve in of_seeds]
        axes[1].plot(tested, np.mean(scores, axis=0), label=name, **look)


def accuracy(frame):
    """Draw accuracy against images per class; a row a student, a column a protocol.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.tables.read`.

    Returns
    -------
    bytes
        SVG. The accuracy is the one that the tables show, its bars one standard deviation (n - 1)
        over student seeds; hollow marks are published.
    """
    students, protocols = frame["student"].unique(), frame["protocol"].unique()
    shape = (len(students), len(protocols))
    with drawing(*shape, sharex=True, sharey="row") as (figure, axes, out):
        for (row, column), axis in np.ndenumerate(axes):
            student, protocol = students[row], protocols[column]
            part = frame[(frame["student"] == student) & (frame["protocol"] == protocol)]
            _draw_lines(axis, part, frame, part["ipc"])
            _draw_published(axis, part, frame)
            ticks = sorted(frame["ipc"].unique())
            _title(axis, f"{protocol}, student {student}", "images per class")
            axis.set_xscale("log")
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.set_xticks([], minor=True)
            axis.margins(x=0.1)
        _finish(figure, axes)
    return out.getvalue()


def size(frame):
    """Draw accuracy against bytes of a whole set: images alone, and images with their labels.

    A row a student, a line a method and protocol. `frame` and result as for `accuracy`.
    """
    alone = frame["image_bytes"] / 1000
    panels = {"images alone": alone, "images and labels": alone + frame["label_bytes"] / 1000}
    students, protocols = frame["student"].unique(), list(frame["protocol"].unique())
    with drawing(len(students), 2, sharex=True, sharey="row") as (figure, axes, out):
        for (row, column), axis in np.ndenumerate(axes):
            title, kilobytes = list(panels.items())[column]
            part = frame[frame["student"] == students[row]]
            for protocol, cells in part.groupby("protocol", sort=False):
                stroke = protocols.index(protocol)
                _draw_lines(axis, cells, frame, kilobytes[cells.index], f", {protocol}", stroke)
            _title(axis, f"{title}, student {students[row]}", "kB a set")
            _round_ticks(axis, alone.min(), (alone + frame["label_bytes"] / 1000).max())
        _finish(figure, axes)
    return out.getvalue()


def _draw_lines(axis, cells, frame, places, ending="", stroke=0):
    """Draw a line for each method and distill seed: means and deviations."""
    values = cells.assign(place=places, shown=layout.reported(cells))
    names = layout.set_names(frame)
    for (method, seed), of_sets in values.groupby(["method", "distill_seed"], sort=False):
        points = of_sets.groupby("ipc").agg(
            place=("place", "first"),
            mean=("shown", "mean"),
            std=("shown", "std"),
        )
        name, look = names[method, seed] + ending, _look(frame, method, stroke)
        axis.errorbar(points["place"], points["mean"], points["std"], label=name, capsize=3, **look)


def _draw_published(axis, cells, frame):
    """Draw published numbers as their method's mark, hollow; one word in the legend for all."""
    hollow = {"linestyle": "", "markerfacecolor": "white", "markersize": 9}
    told = cells.dropna(subset="published").drop_duplicates(["method", "ipc"])
    for method, points in told.groupby("method", sort=False):
        axis.plot(points["ipc"], points["published"], **_look(frame, method, 0) | hollow)
    if len(told):
        axis.plot([], [], marker="o", color="black", label=PUBLISHED, **hollow)


def cost(frame):
    """Draw what a number costs: stacked bars of seconds, one bar a set, protocol and student.

    `frame` and result as for `accuracy`. A part whose timing is missing has no length, and the
    total says that there is more.
    """
    bars = layout.costs(frame)
    bar_names = _bar_names(bars, frame)
    panel = (PANEL[0] + LETTER * max(map(len, bar_names)), BAR * len(bars) + 0.8)
    with drawing(1, 1, panel) as (figure, axes, out):
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
        _legend(figure, axes)
    return out.getvalue()


def _bar_names(bars, frame):
    names, several = layout.set_names(frame), frame["student"].nunique() > 1
    return [
        f"{names[method, seed]}, IPC {ipc}, {protocol}" + (f", {student}" if several else "")
        for student, method, seed, ipc, protocol in bars.index
    ]


@contextlib.contextmanager
def drawing(rows, columns, panel=PANEL, **options):
    """Yield figure, axes and a buffer that will hold the SVG; the same bytes every time.

    Parameters
    ----------
    rows, columns : int
        Panels.
    panel : pair of float
        Width and height of each [inches].
    options
        For ``pyplot.subplots``.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            rows,
            columns,
            figsize=(columns * panel[0], rows * panel[1]),
            squeeze=False,
            layout="constrained",
            **options,
        )
        out = io.BytesIO()
        try:
            yield figure, axes, out
            figure.savefig(out, format="svg", metadata={"Date": None})
        finally:
            pyplot.close(figure)


def _look(frame, method, stroke):
    """Return the colour and mark of a method, and the stroke of what else a line stands for."""
    number = list(frame["method"].unique()).index(method)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": STROKES[stroke % len(STROKES)],
        "linewidth": 1.5,
        "markersize": 5,
    }


def _title(axis, title, xlabel):
    axis.set_title(textwrap.fill(title, 48), fontsize="medium")
    axis.set_xlabel(xlabel)
    axis.tick_params(labelbottom=bool(xlabel))


def _round_ticks(axis, least, most):
    """Scale the places by their logarithm, with a few round numbers written out."""
    from matplotlib import ticker

    axis.set_xscale("log")
    steps = (1, 2, 5) if most < 100 * least else (1,)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def _finish(figure, axes):
    for axis in axes[:, 0]:
        axis.set_ylabel("test accuracy [%]")
    _legend(figure, axes)


def _legend(figure, axes):
    """Put one legend below all panels, in as many columns as fit, and make room for it."""
    named = {}
    for axis in axes.flat:
        handles, names = axis.get_legend_handles_labels()
        named = dict(zip(names, handles, strict=True)) | named
    if PUBLISHED in named:
        named[PUBLISHED] = named.pop(PUBLISHED)
    width = 0.8 + LETTER * max(map(len, named))
    columns = max(1, int(figure.get_figwidth() / width))
    figure.set_figheight(figure.get_figheight() + LINE * -(-len(named) // columns))
    look = {"ncols": columns, "fontsize": "small", "handlelength": 3}
    figure.legend(named.values(), named.keys(), loc="outside lower left", **look)
