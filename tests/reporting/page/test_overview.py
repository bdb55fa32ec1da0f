"""The overview of all experiments: which sets are best, links, files that cannot be read."""

import html.parser
from pathlib import Path

import pandas as pd
import pytest
from stillhouse.config.references import FULL_DATA
from stillhouse.reporting import tables
from stillhouse.reporting.page import overview

from tests.reporting import fakes

ROW = {
    **fakes.frame().iloc[0].to_dict(),
    **dict.fromkeys(("accuracy_top5", "published", "published_std"), float("nan")),
    **{"fidelity": "code", "teacher": "t", "diverged": False, "digest": "0"},
}


def cells(method, accuracies, **changes):
    """Return the rows of a set's students, one per accuracy."""
    names = ("dataset", "ipc", "labels", "protocol", "student")
    folder = "-".join(str({**ROW, **changes}[name]) for name in names)
    rows = [
        {
            **ROW,
            "method": method,
            "seed": i,
            "artifact": f"gone/{method}-{folder}/seed{i}",
            **changes,
        }
        for i in range(len(accuracies))
    ]
    return [
        {**row, "accuracy": value, "accuracy_best": value + 1}
        for row, value in zip(rows, accuracies, strict=True)
    ]


def put(name, *sets):
    """Write the table and a page of an experiment."""
    frame = pd.DataFrame([{**row, "experiment": name} for rows in sets for row in rows])
    for folder, text in (("tables", frame[tables.COLUMNS].to_csv(index=False)), ("report", "")):
        path = Path(f"results/{folder}/{name}.{'csv' if text else 'html'}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def results(*names):
    """Return all accuracies of experiments."""
    read = {name: tables.read_alone(f"results/tables/{name}.csv") for name in names}
    return overview.all_results(read)


class Links(html.parser.HTMLParser):
    """The addresses of a page, and the texts of its cells by row."""

    def __init__(self, text):
        super().__init__()
        self.links, self.rows, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("href", "src")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.inside = tag in ("td", "th", "a") if tag != "tr" else False

    def handle_data(self, text):
        if self.rows and self.rows[-1] and self.inside:
            self.rows[-1][-1] += text.strip()


def page():
    """Write the overview by its command; return its text."""
    assert overview.main([]) == 0
    return Path("results/report/index.html").read_text()


def test_the_best_set_is_that_of_all_experiments_and_protocols(empty):
    put("a", cells("rded", [60.0, 62.0]), cells("dm", [50.0, 52.0]))
    put("b", cells("dm", [70.0, 72.0], protocol="longer"), cells("dm", [90.0], ipc=1))
    put("c", cells("edc", [95.0], labels="hard", protocol="hard"), cells("edc", [1.0], dataset="e"))
    rows = overview.best(results("a", "b"))
    assert [(row["ipc"], row["name"], row["mean"], row["n"]) for row in rows] == [
        (1, "dm", 90.0, 1),
        (10, "dm", 71.0, 2),
    ]
    (winner,) = rows[1]["winners"]
    assert winner == {"name": "dm", "experiment": "b", "protocol": "longer"}


def test_full_data_is_no_method_and_no_best_set(empty):
    full = cells("full data, 30 epochs", [99.0], kind=FULL_DATA)
    put("a", cells("rded", [60.0]), full)
    assert [row["name"] for row in overview.best(results("a"))] == ["rded"]
    assert "full data" not in page()


def test_kinds_of_labels_students_and_datasets_are_compared_apart(empty):
    sets = [
        cells("soft", [60.0]),
        cells("hard", [50.0], labels="hard", protocol="hard"),
        cells("large", [90.0], student="resnet"),
    ]
    put("a", *sets)
    put("b", cells("other", [99.0], dataset="e"))
    rows = overview.best(results("a", "b"))
    assert {(r["dataset"], r["labels"], r["student"]): r["name"] for r in rows} == {
        ("d", "soft", "s"): "soft",
        ("d", "hard", "s"): "hard",
        ("d", "soft", "resnet"): "large",
        ("e", "soft", "s"): "other",
    }


def test_equal_accuracies_share_a_row_and_the_reported_accuracy_counts(empty):
    put("a", cells("y", [60.01]), cells("x", [59.98]), cells("z", [59.5], report="best"))
    (row,) = overview.best(results("a"))
    assert [one["name"] for one in row["winners"]] == ["z"]  # 60.5, the best of its tests
    put("a", cells("y", [60.01]), cells("x", [59.98]), cells("z", [59.5]))
    (row,) = overview.best(results("a"))
    assert [one["name"] for one in row["winners"]] == ["x", "y"]


def test_seeds_of_the_same_students_are_pooled_over_experiments(empty):
    """A lucky subset of seeds in another experiment is not a better accuracy."""
    rows = cells("rded", [60.0, 62.0, 40.0])
    put("a", rows[:2])
    put("b", rows)
    put("c", rows[2:], cells("dm", [50.0, 52.0]))
    (row,) = overview.best(results("a", "b", "c"))
    assert (row["name"], row["mean"], row["n"]) == ("rded", 54.0, 3)


def test_students_that_diverged_are_never_the_best(empty):
    put("a", cells("x", [float("nan")]), cells("y", [10.0, float("nan")]))
    (row,) = overview.best(results("a"))
    assert (row["name"], row["n"]) == ("y", 1)
    put("a", cells("x", [float("nan")]))
    assert overview.best(results("a")) == []


def test_datasets_of_one_name_with_other_classes_are_apart(empty):
    for name, digest in (("a", "111"), ("b", "222")):
        images = {"digest": digest, "address": f"results/dataset/{name}"}
        student = fakes.spec_of("students", f"{name}/seed0", upstream={"images": images})
        fakes.put(student, {"cell.json": {}})
        put(name, cells("m", [60.0], artifact=student["address"]))
    rows = overview.best(results("a", "b"))
    assert [row["dataset"] for row in rows] == ["d (111)", "d (222)"]
    assert [row["dataset"] for row in overview.best(results("a"))] == ["d"]


def test_published_numbers_are_beside_those_that_reproduce_them(empty):
    sets = [cells("rded", [60.0, 62.0], published=63.5, published_std=0.2), cells("dm", [50.0])]
    put("a", *sets)
    (row,) = overview.reproduced(results("a"))
    assert (row["name"], row["mean"], row["difference"]) == ("rded", 61.0, -2.5)
    rows = Links(page()).rows
    assert ["d", "rded", "10", "soft", "s", "61.0\xa0±\xa01.4", "2"] in [row[:7] for row in rows]
    assert any(row[7:] == ["63.5\xa0±\xa00.2", "−2.5"] for row in rows)


def test_every_link_leads_to_a_file_and_nothing_is_loaded(empty):
    put("a", cells("rded", [60.0]))
    put("b & <i>", cells("dm", [50.0], dataset="<b>e"))
    Path("results/report/b & <i>.html").unlink()
    text = page()
    links = [link for link in Links(text).links if link != "data:,"]
    assert {"a.html", "../tables/a.csv", "../tables/b%20%26%20%3Ci%3E.csv"} == set(links)
    assert "<b>e" not in text and "&lt;b&gt;e" in text
    assert not {"http:", "https:", "@import", "url("} & set(text.split())


def test_a_table_that_cannot_be_read_is_named_and_the_others_are_shown(empty):
    put("a", cells("rded", [60.0]))
    put("b", cells("dm", [50.0]))
    frame = pd.read_csv("results/tables/b.csv").drop(columns="report")  # of an earlier version
    frame.to_csv("results/tables/b.csv", index=False)
    text = page()
    assert "not shown. results/tables/b.csv: was changed after it was written" in text
    assert "rded" in text


@pytest.mark.parametrize(("arguments", "status"), [(["x"], 2), ([], 1)])
def test_wrong_arguments_and_no_tables_are_one_line(empty, capsys, arguments, status):
    assert overview.main(arguments) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
