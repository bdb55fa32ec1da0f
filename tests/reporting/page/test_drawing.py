import html
import itertools
import math
import re

import pandas as pd
import pytest
from stillhouse.evaluation.differences import Difference
from stillhouse.reporting import plotting
from stillhouse.reporting.page import drawing, panels, scales

from tests.reporting.fakes import frame


def cells(methods, **changes):
    parts = [
        frame(**{"method": m, "kind": m if m == "random" else "rded", "ipc": ipc, **changes})
        for m in methods
        for ipc in (1, 10)
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_method_has_one_colour_and_twenty_have_different_ones():
    names = ["random", *(f"method-{i}" for i in range(20))]
    styles = panels.styles(cells(names))
    assert styles["random"] == "baseline"
    assert len(set(styles.values())) == 21
    lines = plotting.line_styles(cells(names), "ipc")
    colours = {name: {lines[name, 0, ipc]["color"] for ipc in (1, 10)} for name in names}
    assert all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == 21
    assert colours["random"] == {plotting.BASELINE_COLOUR}
    assert colours["method-7"] == {plotting.COLOURS[int(styles["method-7"][1:])]}


def test_random_is_dashed_in_every_chart():
    lines = plotting.line_styles(cells(["rded", "random"]), "ipc")
    assert all(lines["random", 0, ipc]["linestyle"] != "-" for ipc in (1, 10))
    assert lines["rded", 0, 1]["linestyle"] == "-"


def channel(value):
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def test_colours_are_legible_on_white_and_far_apart():
    def rgb(colour):
        return [channel(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5)]

    for colour in (*plotting.COLOURS, plotting.BASELINE_COLOUR):
        red, green, blue = rgb(colour)
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert 1.05 / (luminance + 0.05) >= 3, colour
    for one, other in itertools.combinations(plotting.COLOURS, 2):
        pairs = zip(
            *([int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (one, other)), strict=True
        )
        assert math.dist(*zip(*pairs, strict=True)) > 40, (one, other)


def test_the_pareto_front_has_the_points_that_none_exceeds_at_less():
    assert panels.front([2, 8, 4, 6, 2], [60, 70, 50, 80, 55]) == [(2, 60), (6, 80)]


@pytest.mark.parametrize("count", [1, 11, 20, 40])
def test_names_beside_lines_do_not_overlap_and_stay_inside(count):
    places = drawing.spread([100.0] * count, 14, 10, 290)
    assert all(10 - 1e-9 <= place <= 290 + 1e-9 for place in places)
    gap = min(14, 280 / max(1, count - 1))
    for one, other in itertools.pairwise(sorted(places)):
        assert other - one >= gap - 1e-9


def test_names_keep_the_order_of_their_lines():
    places = drawing.spread([50.0, 52.0, 200.0, 51.0], 14, 0, 300)
    assert sorted(range(4), key=lambda i: places[i]) == [0, 3, 1, 2]
    assert places[2] == 200.0


def test_texts_of_a_chart_are_inside_and_named_beside_their_line():
    rows = cells(["random", "rded", "a-method-with-a-very-long-name"])
    for panel in panels.accuracy_panels(rows):
        svg = panel["svg"]
        width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
        for x, text in re.findall(r'<text x="([\d.]+)" y="[\d.]+">([^<]*)', svg):
            assert float(x) + drawing.LETTER * len(text) <= width, text
        names = re.findall(r"([^>]*)<title>([^<]*)</title></text>", svg)
        assert ("a-method-with-a-…", "a-method-with-a-very-long-name") in names
        assert "random" in dict(names)


@pytest.mark.parametrize("label", ["accuracy [%]", "loss < 1"])
def test_the_y_axis_is_named_above_its_ticks(label):
    series = [drawing.Series("rded", "rded", "m0", [(1, 0.0, 0, ""), (2, 100.0, 3.0, "")])]
    svg = drawing.lines(series, "epoch", label, scales.linear_ticks, log_x=False)
    texts = re.findall(r'<text (?:class="[a-z ]*" )?x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)', svg)
    places = {text: (float(x), float(y)) for x, y, text in texts}
    assert {"0", "100", "epoch", "rded"} < places.keys()
    x, y = places.pop(html.escape(label))
    assert x < drawing.LEFT and y >= drawing.TEXT
    assert all(y + drawing.TEXT <= below for _, below in places.values())


def test_online_labels_have_no_bytes_to_show():
    rows = cells(["random", "rded"], label_bytes=math.nan)
    shown = {panel["title"]: panel["svg"] for panel in panels.accuracy_panels(rows)}
    assert shown["soft: bytes"] is None
    assert shown["soft: time"] and shown["soft: images per class"]


def test_a_missing_timing_is_marked():
    rows = cells(["random", "rded"], seconds_distill=math.nan)
    (panel, _) = panels.cost_panels(rows)
    assert re.findall(r"<text[^>]*>([^<]* s[^<]*)<", panel["svg"]) == ["14.0 s +"] * 2


def test_most_intervals_fit_a_forest_plot():
    # By hand: ends 1, 2, 2, 3 and 40; the third quartile is 2 (index 3 of 5 sorted is 3).
    ends = [Difference(0.0, -end, end, 3, "students") for end in (1.0, 2.0, 2.0, 3.0, 40.0)]
    assert drawing.forest_limit(ends) == pytest.approx(1.05 * 3)
    assert drawing.forest_limit([]) == 1.0
    inside = drawing.forest(Difference(1.0, 0.5, 1.5, 3, "students"), 3.0, "m0")
    assert "beyond" not in inside and "interval" in inside and "circle" in inside
    outside = drawing.forest(Difference(-20.0, -40.0, -10.0, 3, "students"), 3.0, "m0")
    assert "beyond" in outside and "interval" not in outside and "circle" not in outside


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.0, 100.0, ["0", "20", "40", "60", "80", "100"]),
        (91.2, 93.1, ["91.5", "92.0", "92.5", "93.0"]),
        (-0.3, 0.3, ["-0.3", "-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3"]),
    ],
)
def test_ticks_are_round_numbers(low, high, texts):
    found = [text for _, text in scales.linear_ticks(scales.Scale(low, high, 0, 100))]
    assert found == texts or found == texts[1:-1:1]


def test_ticks_of_bytes_and_seconds_have_units():
    bytes_scale = scales.Scale(700, 300_000, 0, 300, log=True)
    assert [text for _, text in scales.byte_ticks(bytes_scale)] == ["1 kB", "10 kB", "100 kB"]
    second_scale = scales.Scale(8, 4000, 0, 300, log=True)
    texts = [text for _, text in scales.second_ticks(second_scale)]
    assert texts[0] == "10 s" and texts[-1] in ("30 min", "1 h")


def test_numbers_have_three_digits_and_a_unit():
    assert [scales.byte_text(n) for n in (7, 999, 7490, 67_000, 445_123, 2.5e6)] == [
        *("7.00 B", "999 B", "7.49 kB", "67.0 kB", "445 kB", "2.50 MB"),
    ]
    assert [scales.second_text(s) for s in (1.5, 42, 268, 600, 20_000, math.nan)] == [
        *("1.50 s", "42.0 s", "268 s", "10.0 min", "5.56 h", "–"),
    ]


def test_learning_curves_are_means_over_seeds():
    curves = [
        [{"epoch": 1, "loss": 4.0}, {"epoch": 2, "loss": 2.0, "accuracy": 30.0}],
        [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "accuracy": 50.0}],
    ]
    assert panels._mean_curve(curves, "loss") == [(1, 3.0, 0, ""), (2, 1.5, 0, "")]
    assert panels._mean_curve(curves, "accuracy") == [(2, 40.0, 0, "")]
    assert panels._mean_curve([], "loss") == []
