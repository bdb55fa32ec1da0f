import contextlib
import itertools
import re
from pathlib import Path

import pandas as pd
import pytest
from stillhouse import charts
from test_layout import frame


def identities(plan):
    return [{**c, "artifact": str(c["artifact"].directory)} for c in plan.experiments["x"]]


def curves(plan, path):
    cells = [c["artifact"].directory / "cell.json" for c in plan.experiments["x"]]
    charts.curves({"cells": cells}, {"cells": identities(plan)}, {"svg": path})
    return path.read_bytes()


def words_of(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def numbers(methods=("random", "rded"), **changes):
    """Return the rows of methods at two IPCs under two protocols."""
    soft = [
        frame(method=method, ipc=ipc, image_bytes=1000 * ipc, label_bytes=9000 * ipc, **changes)
        for method in methods
        for ipc in (1, 10)
    ]
    rows = pd.concat(soft, ignore_index=True).assign(seconds_denoiser=0.0)
    hard = rows.assign(protocol="hard", label_bytes=80, seconds_label=0.0)
    hard["accuracy"] -= 20
    return pd.concat([rows, hard], ignore_index=True)


@pytest.fixture
def drawn(monkeypatch):
    """Return a function that draws a chart and returns its figure as it was when drawn."""
    kept, drawing = [], charts.drawing

    @contextlib.contextmanager
    def keep(*arguments, **options):
        with drawing(*arguments, **options) as (figure, axes, out):
            yield figure, axes, out
            figure.draw_without_rendering()
            figure.panels = [axis.get_tightbbox() for axis in figure.axes]
            figure.below = figure.legends[0].get_window_extent()
            figure.whole = figure.bbox.frozen()
            kept.append(figure)

    def draw(function, rows):
        monkeypatch.setattr(charts, "drawing", keep)
        function(rows)
        return kept[-1]

    return draw


def points(axis):
    """Return {name: (places, means, deviations)} of the lines with error bars."""
    found = {}
    for bars in axis.containers:
        (segments,) = (c.get_segments() for c in bars.lines[2])
        x, y = (values.tolist() for values in bars.lines[0].get_data())
        found[bars.get_label()] = (x, y, [(s[1, 1] - s[0, 1]) / 2 for s in segments])
    return found


def test_curves_have_a_line_a_set_and_a_column_a_protocol(in_kitchen, tmp_path):
    text = curves(in_kitchen, tmp_path / "x.svg").decode()
    assert text.lstrip().startswith("<?xml")
    words = words_of(text)
    for word in ("soft", "hard", "training loss", "epoch", "test accuracy [%]"):
        assert word in words
    for name in ("random, IPC 1, s", "random, IPC 2, s", "rded, IPC 1, s", "rded, IPC 2, s"):
        assert words.count(name) == 1


def test_curves_are_the_same_bytes_again(in_kitchen, tmp_path):
    assert curves(in_kitchen, tmp_path / "a.svg") == curves(in_kitchen, tmp_path / "b.svg")


def test_curves_are_means_over_seeds():
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots(2)
    cells = frame()[:2]
    cells["curve"] = [
        [{"epoch": 1, "loss": 4.0}, {"epoch": 2, "loss": 2.0, "accuracy": 30.0}],
        [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "accuracy": 50.0}],
    ]
    charts._draw_column(axes, cells, cells)
    loss, accuracy = (axis.lines[0].get_xydata().tolist() for axis in axes)
    assert loss == [[1, 3.0], [2, 1.5]]
    assert accuracy == [[2, 40.0]]
    pyplot.close("all")


@pytest.mark.parametrize("draw", [charts.accuracy, charts.size, charts.cost])
def test_charts_are_the_same_bytes_again(draw):
    assert draw(numbers()) == draw(numbers())


def test_accuracy_has_a_panel_a_protocol_and_a_line_a_method(drawn):
    figure = drawn(charts.accuracy, numbers())
    assert [axis.get_title() for axis in figure.axes] == ["soft, student s", "hard, student s"]
    # By hand: mean 62, deviations -2, -1, 3, √(14 / 2).
    for axis, mean in zip(figure.axes, (62.0, 42.0), strict=True):
        assert axis.get_xscale() == "log"
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "10"]
        assert list(points(axis)) == ["random", "rded"]
        for x, y, deviations in points(axis).values():
            assert x == [1, 10]
            assert y == [mean, mean]
            assert deviations == pytest.approx([7**0.5] * 2)


def test_accuracy_is_the_one_that_the_tables_show(drawn):
    figure = drawn(charts.accuracy, numbers(report="best"))
    assert points(figure.axes[0])["rded"][1] == [63.0, 63.0]


def test_published_numbers_are_hollow_marks(drawn):
    rows = numbers()
    rows.loc[(rows["method"] == "rded") & (rows["protocol"] == "soft"), "published"] = 70.0
    soft, hard = drawn(charts.accuracy, rows).axes
    (marks,) = (line for line in soft.lines if line.get_xydata().tolist() == [[1, 70], [10, 70]])
    assert marks.get_markerfacecolor() == "white"
    assert marks.get_marker() == charts._look(rows, "rded", 0)["marker"]
    assert [70.0, 70.0] not in [line.get_ydata().tolist() for line in hard.lines]
    (legend,) = soft.figure.legends
    assert [text.get_text() for text in legend.texts] == ["random", "rded", "published"]


def test_one_student_seed_has_no_bar():
    assert b"random" in charts.accuracy(numbers()[lambda rows: rows["seed"] == 0])


def test_distilled_sets_of_two_seeds_are_two_lines(drawn):
    rows = pd.concat([numbers(), numbers(distill_seed=1)], ignore_index=True)
    figure = drawn(charts.accuracy, rows)
    assert sorted(points(figure.axes[0])) == [
        f"{method} (seed {seed})" for method in ("random", "rded") for seed in (0, 1)
    ]


def test_bytes_are_of_the_images_alone_and_with_their_labels(drawn):
    alone, together = drawn(charts.size, numbers()).axes
    assert alone.get_xscale() == together.get_xscale() == "log"
    assert list(points(alone)) == ["random, soft", "rded, soft", "random, hard", "rded, hard"]
    assert points(alone)["rded, soft"][0] == points(alone)["rded, hard"][0] == [1.0, 10.0]
    assert points(together)["rded, soft"][0] == [10.0, 100.0]
    assert points(together)["rded, hard"][0] == pytest.approx([1.08, 10.08])


def test_cost_is_stacked_and_says_its_sum(drawn):
    (axis,) = drawn(charts.cost, numbers()).axes
    parts = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers}
    assert list(parts) == ["teacher", "distil", "label", "train"]
    order = [label.get_text() for label in axis.get_yticklabels()]
    assert order[:3] == ["random, IPC 1, soft", "random, IPC 10, soft", "rded, IPC 1, soft"]
    assert [sum(bar) for bar in zip(*parts.values(), strict=True)] == [18.0] * 4 + [13.0] * 4
    assert [text.get_text().strip() for text in axis.texts] == ["18.0"] * 4 + ["13.0"] * 4
    starts = [bars[0].get_x() for bars in axis.containers]
    assert starts == [0.0, 3.0, 7.0, 12.0]


def test_a_missing_timing_is_said(drawn):
    rows = numbers()
    rows.loc[rows["protocol"] == "hard", "seconds_teacher"] = float("nan")
    (axis,) = drawn(charts.cost, rows).axes
    assert [text.get_text().strip() for text in axis.texts][4:] == ["10.0 and more"] * 4


@pytest.mark.parametrize("draw", [charts.accuracy, charts.size, charts.cost])
@pytest.mark.parametrize("letters", [5, 60])
def test_nothing_lies_over_anything_or_is_cut_off(drawn, draw, letters):
    rows = numbers([f"{i}{'-method-of-a-name' * 4}"[:letters] for i in range(9)])
    other = rows.assign(student=("another-student" * 4)[:letters], published=50.0)
    figure = drawn(draw, pd.concat([rows, other], ignore_index=True))
    assert len(figure.legends) == 1
    for one, other in itertools.combinations([figure.below, *figure.panels], 2):
        assert not one.overlaps(other)
    for box in (figure.below, *figure.panels):
        assert 0 <= box.x0 < box.x1 <= figure.whole.x1
        assert 0 <= box.y0 < box.y1 <= figure.whole.y1


def test_a_dozen_methods_look_different():
    rows = pd.DataFrame({"method": [f"m{i}" for i in range(12)]})
    looks = [charts._look(rows, method, 0) for method in rows["method"]]
    assert len({(look["color"], look["marker"]) for look in looks}) == 12


def test_charts_are_drawn_from_a_table(in_kitchen, tmp_path):
    from stillhouse import tables

    cells = [c["artifact"].directory / "cell.json" for c in in_kitchen.experiments["x"]]
    params = {"cells": identities(in_kitchen)}
    made = {name: tmp_path / name for name in ("csv", "markdown", "latex")}
    tables.tables({"cells": cells, "published": [], "indexes": []}, params, made)
    outputs = {name: tmp_path / f"{name}.svg" for name in ("accuracy", "bytes", "cost")}
    charts.charts({"csv": [made["csv"]]}, params, outputs)
    for path in outputs.values():
        words = words_of(Path(path).read_text())
        assert any("random" in word for word in words)
