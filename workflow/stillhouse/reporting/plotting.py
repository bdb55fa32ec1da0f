"""What charts share: the figure, the looks of its lines, titles, ticks and the legend."""

import contextlib
import io
import itertools
import textwrap

PUBLISHED = "published"
# Okabe and Ito's colours, told apart by the colour-blind too; without their yellow.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
STROKES = ["-", "--", ":", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (9, 3))]
# No hollow one: published numbers have it.
HALVES = ["full", "bottom", "left", "top", "right"]
PANEL = (5.0, 3.4)  # inches
LINE = 0.25  # of the legend
GAP = 0.25  # between its columns
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


def looks(frame, column):
    """Return {(method, distill seed, value of a column): look}, no look twice.

    A method has a colour and a mark, a distill seed a filling of the mark, a value a stroke. Where
    fillings or strokes run out, the next lines of a method have another colour and mark, of which
    there are 56.
    """
    seeds, values = (list(enumerate(frame[name].unique())) for name in ("distill_seed", column))
    numbers, found = {}, {}
    for (i, seed), (j, value), method in itertools.product(seeds, values, frame["method"].unique()):
        key = (method, i // len(HALVES), j // len(STROKES))
        number = numbers.setdefault(key, len(numbers))
        found[method, seed, value] = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "fillstyle": HALVES[i % len(HALVES)],
            "markerfacecoloralt": "white",
            "linestyle": STROKES[j % len(STROKES)],
            "linewidth": 1.5,
            "markersize": 6,
        }
    return found


def title(axis, text, xlabel):
    """Write a title, the name of the places, and where that is not empty their numbers."""
    axis.set_title(textwrap.fill(text, 48), fontsize="medium")
    axis.set_xlabel(xlabel)
    axis.tick_params(labelbottom=bool(xlabel))


def round_ticks(axis, least, most):
    """Scale the places by their logarithm, with a few round numbers written out."""
    from matplotlib import ticker

    axis.set_xscale("log")
    steps = (1, 2, 5) if most < 100 * least else (1,)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def say(axis, text):
    """Write a sentence into the middle of a panel that has nothing else to show."""
    place = {"ha": "center", "va": "center", "transform": axis.transAxes}
    axis.text(0.5, 0.5, textwrap.fill(text, 36), color="#555555", **place)


def legend(figure, axes):
    """Put one legend below all panels, in as many columns as fit, and make room for it."""
    named = {}
    for axis in axes.flat:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    if PUBLISHED in named:
        named[PUBLISHED] = named.pop(PUBLISHED)
    look = {"loc": "outside lower left", "fontsize": "small", "handlelength": 4}
    alone = figure.legend(named.values(), named.keys(), **look)
    width = GAP + alone.get_window_extent().width / figure.dpi
    alone.remove()
    columns = max(1, int(figure.get_figwidth() / width))
    lines = -(-len(named) // columns)
    figure.set_size_inches(max(figure.get_figwidth(), width), figure.get_figheight() + LINE * lines)
    figure.legend(named.values(), named.keys(), ncols=columns, **look)
