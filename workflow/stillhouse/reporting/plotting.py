"""Elements shared by all charts: SVG figures, line styles, titles, ticks and the legend."""

import contextlib
import io
import itertools
import textwrap

from stillhouse.reporting import table_layout

PUBLISHED = "published"
FRONTIER = "highest at or below this rate"
# One per method. The first five are Okabe and Ito's, which colour-blind readers can distinguish,
# two of them darker; all have a contrast of at least 3 to white.
COLOURS = """
#0072B2 #D55E00 #009E73 #B4508C #2593CE #B07800 #7A4B9E #8C4A2F #D0312D #12808A #6B7A12 #E0488A
#3B4CC0 #4F9A2A #9C2A62 #C2703D #1F6650 #8577C4 #A58A5B #20206B
""".split()  # noqa: SIM905
BASELINE_COLOUR = "#767676"
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
STROKES = ["-", "--", ":", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (9, 3))]
# Of the baseline.
DASHES = ["--", (0, (2, 2)), (0, (6, 3)), (0, (9, 2, 2, 2)), (0, (9, 2, 2, 2, 2, 2)), (0, (12, 4))]
# Hollow markers are reserved for published numbers.
FILL_STYLES = ["full", "bottom", "left", "top", "right"]
PANEL = (5.0, 3.4)  # inches
LEGEND_LINE = 0.25  # inches
LEGEND_GAP = 0.25  # inches, between columns
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    # Equal figures give equal bytes, and text stays text.
    "svg.fonttype": "none",
    "svg.hashsalt": "stillhouse",
}


@contextlib.contextmanager
def svg_figure(rows, columns, panel=PANEL, **options):
    """Yield a figure, its axes and the buffer that receives the SVG on exit.

    Equal figures give equal bytes.

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
        buffer = io.BytesIO()
        try:
            yield figure, axes, buffer
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        finally:
            pyplot.close(figure)


def method_numbers(frame):
    """Return {method: its number, by which it has one colour everywhere}; None for the baseline."""
    baseline = table_layout.baseline(frame) if "kind" in frame else None
    others = [method for method in frame["method"].unique() if method != baseline]
    return {**dict.fromkeys([baseline] if baseline else []), **{m: i for i, m in enumerate(others)}}


def line_styles(frame, column):
    """Return {(method, distill seed, value of a column): style}, all different.

    The colour identifies the method, up to 20, with the marker; the marker's filling the distill
    seed, and the stroke the value. The baseline is grey and dashed. Where fillings or strokes run
    out, further lines of a method have another marker.
    """
    seeds, values = (list(enumerate(frame[name].unique())) for name in ("distill_seed", column))
    styles = {}
    for (method, number), (i, seed), (j, value) in itertools.product(
        method_numbers(frame).items(), seeds, values
    ):
        # Methods 20 apart share a colour, and have other markers.
        marker = 0 if number is None else number + number // len(COLOURS)
        marker += i // len(FILL_STYLES) + 2 * (j // len(STROKES))
        strokes = DASHES if number is None else STROKES
        styles[method, seed, value] = {
            "color": BASELINE_COLOUR if number is None else COLOURS[number % len(COLOURS)],
            "marker": MARKERS[marker % len(MARKERS)],
            "fillstyle": FILL_STYLES[i % len(FILL_STYLES)],
            "markerfacecoloralt": "white",
            "linestyle": strokes[j % len(strokes)],
            "linewidth": 1.5,
            "markersize": 6,
        }
    return styles


def title(axis, text, xlabel):
    """Set title and x-label; hide the tick labels if the x-label is empty."""
    axis.set_title(textwrap.fill(text, 48), fontsize="medium")
    axis.set_xlabel(xlabel)
    axis.tick_params(labelbottom=bool(xlabel))


def log_ticks(axis, smallest, largest):
    """Make the x-axis logarithmic, with a few round numbers as tick labels."""
    from matplotlib import ticker

    axis.set_xscale("log")
    steps = (1, 2, 5) if largest < 100 * smallest else (1,)
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def frontier(axis, x, y):
    """Draw steps from point to point as a broad grey line behind the curves, with its name."""
    style = {"color": "#cccccc", "linewidth": 5, "solid_capstyle": "butt", "zorder": 0.6}
    axis.plot(x, y, drawstyle="steps-post", label=FRONTIER, **style)


def vertical_line(axis, x, text):
    """Draw a grey vertical line behind the curves, with a text at its lower end."""
    axis.axvline(x, color="#777777", linestyle=":", linewidth=1, zorder=0.5)
    place = {"xycoords": axis.get_xaxis_transform(), "textcoords": "offset points"}
    style = {"fontsize": "x-small", "color": "#555555"}
    axis.annotate(text, (x, 0), xytext=(2, 3), **place, **style)


def annotate(axis, text):
    """Write a sentence into the middle of an otherwise empty panel."""
    position = {"ha": "center", "va": "center", "transform": axis.transAxes}
    axis.text(0.5, 0.5, textwrap.fill(text, 36), color="#555555", **position)


def legend(figure, axes):
    """Draw one legend below all panels, in as many columns as fit, and enlarge the figure by it."""
    handles = {}
    for axis in axes.flat:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    for name in (PUBLISHED, FRONTIER):
        if name in handles:
            handles[name] = handles.pop(name)
    style = {"loc": "outside lower left", "fontsize": "small", "handlelength": 4}
    one_column = figure.legend(handles.values(), handles.keys(), **style)
    width = LEGEND_GAP + one_column.get_window_extent().width / figure.dpi
    one_column.remove()
    columns = max(1, int(figure.get_figwidth() / width))
    height = LEGEND_LINE * -(-len(handles) // columns)
    figure.set_size_inches(max(figure.get_figwidth(), width), figure.get_figheight() + height)
    figure.legend(handles.values(), handles.keys(), ncols=columns, **style)
