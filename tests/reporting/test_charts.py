import contextlib
import itertools
import math
import re

import pandas as pd
import pytest
from stillhouse.reporting import charts, plotting, tables

from tests.reporting.fakes import frame


def curves(cells, path):
    charts.curves({}, {"cells": cells}, {"svg": path})
    return path.read_bytes()


def words_of(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def numbers(methods=("random", "rded"), **changes):
    """Return the rows of methods at two IPCs under two protocols, with curves of two epochs."""
    soft = [
        frame(
            **{
                **{"method": method, "ipc": ipc, "image_bits_per_class": 1000.0 * ipc},
                **{"label_bits_per_class": 9000.0 * ipc, **changes},
            }
        )
        for method in methods
        for ipc in (1, 10)
    ]
    rows = pd.concat(soft, ignore_index=True).assign(seconds_denoiser=0.0)
    rows["curve"] = [[{"loss": 2.0}, {"epoch": 2, "loss": 1.0, "accuracy": 60.0}]] * len(rows)
    hard = rows.assign(protocol="hard", label_bits_per_class=80.0, seconds_label=0.0)
    hard["accuracy"] -= 20
    return pd.concat([rows, hard], ignore_index=True)


@pytest.fixture
def drawn(monkeypatch):
    """Return a function that draws a chart and returns its figure, laid out only if asked to be.

    Nothing is saved: layout and rendering take most of the time of a chart.
    """
    figures, svg_figure = [], plotting.svg_figure

    def draw(function, rows, laid_out=False):
        @contextlib.contextmanager
        def keep(*arguments, **options):
            with svg_figure(*arguments, **options) as (figure, axes, buffer):
                yield figure, axes, buffer
                if laid_out:
                    figure.draw_without_rendering()
                    figure.panels = [axis.get_tightbbox() for axis in figure.axes]
                    figure.below = figure.legends[0].get_window_extent()
                    figure.page = figure.bbox.frozen()
                figure.savefig = lambda *arguments, **options: None
                figures.append(figure)

        monkeypatch.setattr(plotting, "svg_figure", keep)
        function(rows)
        return figures[-1]

    return draw


def points(axis):
    """Return {name: (places, means, deviations)} of the lines with error bars."""
    found = {}
    for bars in axis.containers:
        (segments,) = (c.get_segments() for c in bars.lines[2])
        x, y = (values.tolist() for values in bars.lines[0].get_data())
        found[bars.get_label()] = (x, y, [(s[1, 1] - s[0, 1]) / 2 for s in segments])
    return found


def test_curves_have_one_line_per_set_and_one_column_per_protocol(experiment, tmp_path):
    text = curves(experiment, tmp_path / "x.svg").decode()
    assert text.lstrip().startswith("<?xml")
    words = words_of(text)
    titles = ("soft, student s", "hard, student s")
    for word in (*titles, "training loss", "epoch", "test accuracy [%]"):
        assert word in words
    for name in ("random, IPC 1", "random, IPC 2", "rded, IPC 1", "rded, IPC 2"):
        assert words.count(name) == 1


def test_equal_curves_give_equal_bytes(experiment, tmp_path):
    assert curves(experiment, tmp_path / "a.svg") == curves(experiment, tmp_path / "b.svg")


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
    charts._draw_curves(*axes, cells, cells)
    loss, accuracy = (axis.lines[0].get_xydata().tolist() for axis in axes)
    assert loss == [[1, 3.0], [2, 1.5]]
    assert accuracy == [[2, 40.0]]
    pyplot.close("all")


def test_curves_have_two_rows_per_student(drawn):
    other = numbers().assign(student="other")
    other["curve"] = [[{**row, "loss": 4 * row["loss"]} for row in one] for one in other["curve"]]
    figure = drawn(charts.learning, pd.concat([numbers(), other], ignore_index=True))
    wanted = [f"{protocol}, student {student}" for student in "so" for protocol in ("soft", "hard")]
    found = [axis.get_title().replace("other", "o") for axis in figure.axes if axis.get_title()]
    assert found == wanted
    losses = [[line.get_ydata().tolist() for line in axis.lines] for axis in figure.axes]
    # Two methods at two IPCs: a line each.
    assert losses[:2] == [[[2.0, 1.0]] * 4] * 2
    assert losses[2:4] == losses[6:] == [[[60.0]] * 4] * 2
    assert losses[4:6] == [[[8.0, 4.0]] * 4] * 2


CHARTS = [charts.learning, charts.accuracy, charts.rates, charts.cost]


def test_equal_tables_give_equal_bytes():
    assert charts.accuracy(numbers()) == charts.accuracy(numbers())


def test_accuracy_has_one_panel_per_protocol_and_one_line_per_method(drawn):
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


def test_charts_show_the_reported_accuracy(drawn):
    figure = drawn(charts.accuracy, numbers(report="best"))
    assert points(figure.axes[0])["rded"][1] == [63.0, 63.0]


def test_published_numbers_are_hollow_markers(drawn):
    rows = numbers()
    rows.loc[(rows["method"] == "rded") & (rows["protocol"] == "soft"), "published"] = 70.0
    soft, hard = drawn(charts.accuracy, rows).axes
    (marks,) = (line for line in soft.lines if line.get_xydata().tolist() == [[1, 70], [10, 70]])
    assert marks.get_markerfacecolor() == "white"
    assert marks.get_marker() == plotting.line_styles(rows, "protocol")["rded", 0, "soft"]["marker"]
    assert [70.0, 70.0] not in [line.get_ydata().tolist() for line in hard.lines]
    (legend,) = soft.figure.legends
    assert [text.get_text() for text in legend.texts] == ["random", "rded", "published"]


def test_one_student_seed_has_no_error_bar():
    assert b"random" in charts.accuracy(numbers()[lambda rows: rows["seed"] == 0])


def test_distilled_sets_of_two_seeds_are_two_lines(drawn):
    rows = pd.concat([numbers(), numbers(distill_seed=1)], ignore_index=True)
    figure = drawn(charts.accuracy, rows)
    assert sorted(points(figure.axes[0])) == [
        f"{method} (seed {seed})" for method in ("random", "rded") for seed in (0, 1)
    ]


def test_rates_are_of_the_images_and_of_the_images_with_their_labels(drawn):
    figure = drawn(charts.rates, numbers())
    soft, hard, with_soft, with_hard = figure.axes
    assert [axis.get_title() for axis in figure.axes] == [
        f"{protocol}, student s: {counted}"
        for counted in ("images", "images and labels")
        for protocol in ("soft", "hard")
    ]
    assert {axis.get_xscale() for axis in figure.axes} == {"log"}
    assert {axis.get_xlabel() for axis in figure.axes} == {"kbit per class"}
    for axis, places in (
        (soft, [1.0, 10.0]),
        (hard, [1.0, 10.0]),
        (with_soft, [10.0, 100.0]),
        (with_hard, [1.08, 10.08]),
    ):
        assert list(points(axis)) == ["random", "rded"]
        assert points(axis)["rded"][0] == pytest.approx(places)
    # By hand: means as in the chart of accuracies.
    assert points(soft)["rded"][1] == points(with_soft)["rded"][1] == [62.0, 62.0]
    assert points(hard)["rded"][1] == points(with_hard)["rded"][1] == [42.0, 42.0]


def test_curves_follow_the_images_per_class(drawn):
    """A method whose larger set needs fewer bits has a curve that turns back."""
    rows = numbers(["ruo"])
    rows["image_bits_per_class"] = 11_000.0 - rows["image_bits_per_class"]
    assert points(drawn(charts.rates, rows).axes[0])["ruo"][0] == [10.0, 1.0]


def test_grey_steps_are_the_highest_accuracy_at_or_below_a_rate(drawn):
    sets = [("a", 1, 2.0, 60.0), ("a", 10, 8.0, 70.0), ("b", 1, 4.0, 50.0), ("b", 10, 6.0, 80.0)]
    rows = pd.concat(
        [
            numbers([method], image_bits_per_class=1000 * kilobits)
            .query("ipc == @ipc and protocol == 'hard'")
            .assign(accuracy=[mean - 1, mean, mean + 1])
            for method, ipc, kilobits, mean in sets
        ],
        ignore_index=True,
    )
    axis = drawn(charts.rates, rows).axes[0]
    (steps,) = [line for line in axis.lines if line.get_label() == plotting.FRONTIER]
    assert steps.get_drawstyle() == "steps-post"
    assert steps.get_xdata().tolist() == [2.0, 4.0, 6.0, 8.0, 8.0]
    assert steps.get_ydata().tolist() == [60.0, 60.0, 80.0, 80.0, 80.0]


@pytest.mark.parametrize(
    ("resolution", "budgets"),
    [(8, {6.144: "0.75 KiB"}), (4, {1.536: "0.188 KiB"}), (1, {4.8: "0.586 KiB"}), (32, {})],
)
def test_budgets_are_lines_between_the_points(drawn, resolution, budgets):
    # Points from 1 to 10 kbit; an image of float32 has 96 bits per pixel, a budget 1, 10 or 50.
    for axis in drawn(charts.rates, numbers(resolution=resolution)).axes[:2]:
        lines = [line for line in axis.lines if line.get_color() == "#777777"]
        assert [line.get_xdata()[0] for line in lines] == list(budgets)
        assert [text.get_text() for text in axis.texts] == list(budgets.values())


def test_cost_is_stacked_with_its_sum(drawn):
    (axis,) = drawn(charts.cost, numbers()).axes
    parts = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers}
    assert list(parts) == ["teacher", "distil", "label", "train"]
    order = [label.get_text() for label in axis.get_yticklabels()]
    assert order[:3] == ["random, IPC 1, soft", "random, IPC 10, soft", "rded, IPC 1, soft"]
    assert [sum(bar) for bar in zip(*parts.values(), strict=True)] == [18.0] * 4 + [13.0] * 4
    assert [text.get_text().strip() for text in axis.texts] == ["18.0"] * 4 + ["13.0"] * 4
    starts = [bars[0].get_x() for bars in axis.containers]
    assert starts == [0.0, 3.0, 7.0, 12.0]


def test_a_missing_timing_is_marked(drawn):
    rows = numbers()
    rows.loc[rows["protocol"] == "hard", "seconds_teacher"] = float("nan")
    (axis,) = drawn(charts.cost, rows).axes
    assert [text.get_text().strip() for text in axis.texts][4:] == ["10.0 and more"] * 4


@pytest.mark.parametrize(
    ("draw", "protocols", "students", "name"),
    [
        (charts.learning, 2, 2, "-method-of-a-name"),
        (charts.accuracy, 2, 2, "-method-of-a-name"),
        (charts.accuracy, 1, 1, "W"),
        # Two rows of panels of one student.
        (charts.rates, 2, 1, "-method-of-a-name"),
        (charts.cost, 2, 2, "-method-of-a-name"),
    ],
)
def test_nothing_overlaps_or_is_cut_off(drawn, draw, protocols, students, name):
    rows = numbers([f"{i}{name * 60}"[:60] for i in range(9)])
    rows = rows[rows["protocol"].isin(["soft", "hard"][:protocols])]
    named = [("another-student" * 4)[:60], "s"][:students]
    rows = pd.concat([rows.assign(student=one) for one in named], ignore_index=True)
    figure = drawn(draw, rows.assign(published=50.0), laid_out=True)
    assert len(figure.legends) == 1
    for one, other in itertools.combinations([figure.below, *figure.panels], 2):
        assert not one.overlaps(other)
    for box in (figure.below, *figure.panels):
        assert 0 <= box.x0 < box.x1 <= figure.page.x1
        assert 0 <= box.y0 < box.y1 <= figure.page.y1


def styles_of(figure):
    """Return {name: styles} of all lines with a name, in all panels."""
    styles = {}
    for axis in figure.axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            line = handle.lines[0] if hasattr(handle, "lines") else handle
            parts = ("color", "marker", "fillstyle", "linestyle")
            style = tuple(getattr(line, f"get_{part}")() for part in parts)
            styles.setdefault(name, set()).add(style)
    return styles


@pytest.mark.parametrize(
    "draw, others", [(charts.learning, 2), (charts.accuracy, 1), (charts.rates, 1)]
)
def test_every_line_has_its_own_style_in_all_panels(drawn, draw, others):
    # Three methods, two distill seeds, two IPCs, two protocols, two students.
    one = numbers(["a", "b", "c"])
    rows = pd.concat([one, one.assign(distill_seed=1)], ignore_index=True)
    figure = drawn(draw, pd.concat([rows, rows.assign(student="other")], ignore_index=True))
    found = styles_of(figure)
    assert set(found) == {text.get_text() for text in figure.legends[0].texts}
    found.pop(plotting.FRONTIER, None)
    assert len(found) == 3 * 2 * others
    assert all(len(styles) == 1 for styles in found.values())
    assert len(set.union(*found.values())) == len(found)


def test_curves_have_markers(drawn):
    rows = numbers()
    curve = [{"epoch": e, "loss": 1.0, "accuracy": 60.0} for e in range(1, 41)]
    for row in curve[:20]:
        del row["accuracy"]
    rows["curve"] = [curve] * len(rows)
    loss, _, accuracy, _ = drawn(charts.learning, rows).axes
    for axis, marks in ((loss, 8), (accuracy, 2)):
        line = axis.lines[0]
        assert line.get_marker() == "o"
        assert len(line.get_xdata()[:: line.get_markevery()]) == marks


@pytest.mark.filterwarnings("error")
def test_points_without_label_bits_are_left_out_of_their_row(drawn):
    rows = numbers()
    rows.loc[(rows["protocol"] == "soft") & (rows["ipc"] == 10), "label_bits_per_class"] = math.nan
    soft, _, with_soft, with_hard = drawn(charts.rates, rows).axes
    assert points(soft)["rded"][0] == [1.0, 10.0]
    assert points(with_soft)["rded"][0] == [10.0]
    assert points(with_hard)["rded"][0] == pytest.approx([1.08, 10.08])


@pytest.mark.filterwarnings("error")
def test_a_panel_without_points_is_annotated(drawn):
    rows = numbers()
    rows.loc[rows["protocol"] == "soft", "label_bits_per_class"] = math.nan
    online = rows[rows["protocol"] == "soft"]
    other = numbers(methods=["random"]).assign(student="other")
    for part in (online, pd.concat([rows, other], ignore_index=True)):
        figure = drawn(charts.rates, part, laid_out=True)
        empty = [axis for axis in figure.axes if not points(axis)]
        (axis,) = empty
        assert axis.get_title() == "soft, student s: images and labels"
        (text,) = axis.texts
        assert " ".join(text.get_text().split()) == charts.UNSTORED
        inside, panel = text.get_window_extent(), axis.get_window_extent()
        assert panel.x0 < inside.x0 < inside.x1 < panel.x1
        names = ["random", "rded", plotting.FRONTIER]
        assert [text.get_text() for text in figure.legends[0].texts] == names


def test_charts_are_drawn_from_a_table(tmp_path):
    further = ["label_teachers", "n_classes", "resolution"]
    rows = numbers().reindex(columns=[*tables.COLUMNS, *further])
    rows[tables.COLUMNS].to_csv(tmp_path / "x.csv", index=False)
    cells = rows[further].to_dict("records")
    outputs = {name: tmp_path / f"{name}.svg" for name in ("accuracy", "cost", "rates")}
    charts.charts({"csv": [tmp_path / "x.csv"]}, {"cells": cells}, outputs)
    for path in outputs.values():
        assert any("random" in word for word in words_of(path.read_text()))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", CHARTS)
@pytest.mark.parametrize("gone", [1, 3])
def test_diverged_students_are_left_out_of_charts_and_counted(drawn, draw, gone):
    """Of one set, `gone` of three students diverged; at three, the set has no point."""
    rows = numbers()
    rows["curve"] = rows["curve"].tolist()
    for i in range(gone):
        rows.loc[i, ["accuracy", "accuracy_best", "seconds_train"]] = math.nan
        rows.at[i, "curve"] = []
    figure = drawn(draw, rows)
    titles = [axis.get_title().replace("\n", " ") for axis in figure.axes]
    counted = [title for title in titles if f"({gone} of 12 diverged, left out)" in title]
    assert bool(counted) == (draw is not charts.cost)
    if draw is charts.accuracy and gone == 1:
        _, means, _ = points(figure.axes[0])["random"]
        assert means[0] == pytest.approx(rows["accuracy"][1:3].mean())
