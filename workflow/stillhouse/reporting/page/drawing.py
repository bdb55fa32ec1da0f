"""Charts of the page as SVG, which takes colours from the page's style and scales with it.

A chart is as wide as a phone and is drawn at that size or larger, so that its text (12 px) is
legible everywhere. Names with the colour stand beside their lines; there is no legend.
"""

import base64
from dataclasses import dataclass
from html import escape

from stillhouse.reporting.page import scales

WIDTH = 352  # px
HEIGHT = 316
TEXT = 12
LETTER = 6.6  # px, mean width at this size
LINE = 14
LEFT, TOP, BOTTOM = 40, 26, 38  # TOP has room for the y-label
LONGEST = 17  # characters of a name
FOREST = (96, 18)  # px


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Parameters
    ----------
    name, method : str
        The text beside it, and the method that a reader can select.
    style : str
        Class of the page's style that has the colour.
    points : list of tuple
        x, y, standard deviation of y (0 for none) and a text, along the line.
    hollow : list of tuple
        x, y and a text of published numbers.
    """

    name: str
    method: str
    style: str
    points: list
    hollow: list = ()


def data_uri(data, kind):
    """Return the address of a file that the page contains; `kind` is its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def shortened(name):
    """Return a name, cut where it is too long for a chart."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def lines(series, xlabel, ylabel, x_ticks, *, log_x=True, log_y=False, dots=True, front=()):
    """Draw lines over a common axis, with names at their right.

    Parameters
    ----------
    series : list of Series
        At least one, each with at least one point.
    xlabel, ylabel : str
    x_ticks : callable
        Returns the ticks of a `scales.Scale`.
    dots : bool
        Whether points are marked.
    front : list of tuple
        x and y of the Pareto front, by x.

    Returns
    -------
    str
        SVG.
    """
    right = 18 + LETTER * max(len(shortened(one.name)) for one in series)
    height = max(HEIGHT, TOP + BOTTOM + LINE * len(series))
    points = [point for one in series for point in (*one.points, *one.hollow)]
    x = scales.covering([p[0] for p in points], LEFT, WIDTH - right, log_x)
    heights = [p[1] for one in series for p in one.hollow]
    for _, value, std, _ in (point for one in series for point in one.points):
        heights += [value - std, value + std] if std == std else [value]
    y = scales.covering(heights, height - BOTTOM, TOP, log_y, margin=0.03)
    y_ticks = scales.decade_ticks(y) if log_y else scales.linear_ticks(y)
    parts = _axes(x, y, x_ticks(x), y_ticks, xlabel, ylabel, height)
    if front:
        parts.append(_steps(x, y, front))
    bounds = (TOP + LINE / 2, height - BOTTOM - LINE / 2)
    ends = [y(one.points[-1][1]) for one in series]
    for line, place in zip(series, spread(ends, LINE, *bounds), strict=True):
        parts.append(_line(line, x, y, place, WIDTH - right, dots))
    return _svg(WIDTH, height, parts, f"{ylabel} against {xlabel}")


def spread(places, gap, low, high):
    """Return places moved as little as needed to lie at least `gap` apart between two bounds.

    The order stays. If all together need more room than there is, the gap is smaller.
    """
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved, last = list(places), low - gap
    for i in order:
        last = moved[i] = max(moved[i], last + gap)
    last = high + gap
    for i in reversed(order):
        last = moved[i] = min(moved[i], last - gap)
    return moved


def bars(rows, parts):
    """Draw stacked bars, one per row.

    Parameters
    ----------
    rows : list of tuple
        Name, method, lengths of the parts [s] and the text at the end.
    parts : list of str
        Names of the parts; the style has a colour for each, ``part-<name>``.
    """
    left = 12 + LETTER * max(len(shortened(name)) for name, *_ in rows)
    right = 6 + LETTER * max(len(text) for *_, text in rows)
    longest = max(sum(lengths) for *_, lengths, _ in rows) or 1
    gap, drawn = 20, []
    for i, (name, method, lengths, text) in enumerate(rows):
        x, y = left, i * gap + 3
        pieces = [
            f'<text x="{left - 6:.1f}" y="{y + 11}" class="end">{escape(shortened(name))}</text>'
        ]
        for part, length in zip(parts, lengths, strict=True):
            width = (WIDTH - left - right) * length / longest
            if width:
                title = f"{name}, {part}: {scales.second_text(length)}"
                pieces.append(
                    f'<rect class="part-{part}" x="{x:.1f}" y="{y}" width="{width:.1f}" '
                    f'height="14"><title>{escape(title)}</title></rect>'
                )
            x += width
        pieces.append(f'<text x="{x + 4:.1f}" y="{y + 11}">{escape(text)}</text>')
        drawn.append(f'<g class="series" data-method="{escape(method)}">{"".join(pieces)}</g>')
    return _svg(WIDTH, gap * len(rows) + 4, drawn, "Compute time")


def forest_limit(differences):
    """Return the end of an axis that most intervals fit [percentage points].

    Intervals that reach beyond twice the third quartile are left out: one method that is far behind
    would make all other intervals invisible.
    """
    ends = sorted(
        max(abs(gain.low), abs(gain.high)) if gain.has_interval else abs(gain.mean)
        for gain in differences
    )
    if not ends:
        return 1.0
    most = 2 * ends[(3 * (len(ends) - 1)) // 4]
    return max(0.5, 1.05 * max(end for end in ends if end <= most))


def forest(difference, limit, style):
    """Draw a difference with its interval on an axis from -limit to limit; arrows lead beyond."""
    width, height = FOREST
    middle = height / 2
    x = scales.Scale(-limit, limit, 5, width - 5)
    low, high = (
        (difference.low, difference.high)
        if difference.has_interval
        else (difference.mean, difference.mean)
    )
    parts = [f'<path class="zero" d="M{x(0):.1f} 0V{height}"/>']
    if low < limit and high > -limit:
        ends = x(max(low, -limit)), x(min(high, limit))
        parts.append(f'<path class="interval" d="M{ends[0]:.1f} {middle}H{ends[1]:.1f}"/>')
    if low < -limit:
        parts.append(f'<path class="beyond" d="M1 {middle}l6 -4v8z"/>')
    if high > limit:
        parts.append(f'<path class="beyond" d="M{width - 1} {middle}l-6 -4v8z"/>')
    if -limit <= difference.mean <= limit:
        parts.append(f'<circle cx="{x(difference.mean):.1f}" cy="{middle}" r="3.5"/>')
    return (
        f'<svg class="forest {style}" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )


def _svg(width, height, parts, label):
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _axes(x, y, x_ticks, y_ticks, xlabel, ylabel, height):
    """Return grid, ticks and labels; the y-label stands above the ticks of its axis."""
    below = height - BOTTOM
    parts = []
    for value, text in y_ticks:
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{x.end:.1f}"/>')
        parts.append(f'<text class="end faint" x="{LEFT - 5}" y="{y(value) + 4:.1f}">{text}</text>')
    for value, text in x_ticks:
        parts.append(f'<path class="grid" d="M{x(value):.1f} {TOP}V{below}"/>')
        parts.append(
            f'<text class="middle faint" x="{x(value):.1f}" y="{below + 15}">{text}</text>'
        )
    parts.append(f'<text x="0" y="{TEXT}">{escape(ylabel)}</text>')
    centre = (LEFT + x.end) / 2
    parts.append(f'<text class="middle" x="{centre:.1f}" y="{below + 32}">{escape(xlabel)}</text>')
    return parts


def _steps(x, y, front):
    """Return the Pareto front as steps to the right end of the axis."""
    (first, height), *others = front
    path = f"M{x(first):.1f} {y(height):.1f}"
    path += "".join(f"H{x(place):.1f}V{y(value):.1f}" for place, value in others)
    return f'<path class="front" d="{path}H{x.end:.1f}"/>'


def _line(series, x, y, place, right, dots):
    """Return a line with its points and deviations, and its name at the right."""
    places = [(x(px), y(py)) for px, py, *_ in series.points]
    path = "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
    parts = [f'<path class="line" d="M{path}"/>'] if len(places) > 1 else []
    for (px, py), (_, value, std, text) in zip(places, series.points, strict=True):
        if std and std == std:
            span = y(value - std), y(value + std)
            parts.append(f'<path class="error" d="M{px:.1f} {span[0]:.1f}V{span[1]:.1f}"/>')
        if dots:
            title = f"<title>{escape(text)}</title>"
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5">{title}</circle>')
    for px, py, text in series.hollow:
        title = f"<title>{escape(text)}</title>"
        parts.append(
            f'<circle class="hollow" cx="{x(px):.1f}" cy="{y(py):.1f}" r="4.5">{title}</circle>'
        )
    end_x, end_y = places[-1]
    parts.append(f'<path class="leader" d="M{end_x + 5:.1f} {end_y:.1f}L{right + 7} {place:.1f}"/>')
    parts.append(f'<circle cx="{right + 8:.1f}" cy="{place:.1f}" r="3"/>')
    parts.append(
        f'<text x="{right + 14:.1f}" y="{place + 4:.1f}">{escape(shortened(series.name))}'
        f"<title>{escape(series.name)}</title></text>"
    )
    attributes = f'class="series {series.style}" data-method="{escape(series.method)}"'
    return f"<g {attributes}>{''.join(parts)}</g>"
