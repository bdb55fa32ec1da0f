"""The page and the tables of an experiment with full data and two sets per method."""

import csv
import html
import re
from pathlib import Path

import pytest
from stillhouse.evaluation import scores
from stillhouse.reporting.page import document

from tests.reporting import fakes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write tables and page; the sets of both distill seeds are the same."""
    folder = tmp_path_factory.mktemp("references")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sets = fakes.put_experiment()
        cells = [{**cell, "distill_seed": seed} for seed in (0, 1) for cell in sets]
        cells += fakes.put_full_data()
        fakes.put_tables(cells)
        inputs, params = fakes.page_inputs(cells)
        document.page(inputs, params, {"html": Path("x.html")})
    return folder


def boards(folder):
    """Return the text of each leaderboard, {caption: [HTML of methods, HTML of sets]}."""
    text = (folder / "x.html").read_text().split('<section id="charts">')[0]
    found = {}
    for table in re.findall(r'<table class="sortable" role="table">.*?</table>', text, re.S):
        caption = " ".join(re.search(r"<caption>(.*?)</caption>", table, re.S)[1].split())
        found.setdefault(caption, []).append(table)
    return found


def texts(row):
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S)
    return [" ".join(html.unescape(re.sub(r"<[^>]*>", "", cell)).split()) for cell in cells]


def test_full_data_are_rows_of_boards_with_hard_labels_alone(folder):
    of = boards(folder)
    assert "full data" not in of["1 image per class, soft labels"][0]
    (row,) = re.findall(
        r'<tr[^>]*class="reference">.*?</tr>', of["1 image per class, hard labels"][0], re.S
    )
    assert texts(row)[:4] == ["–", "full data 9 epochs", "90.0 ± 0.0", "–"]
    assert texts(row)[4:6] == ["–", "1.20 kB"]


def test_methods_have_one_row_and_their_sets_a_table_below(folder):
    methods, sets = boards(folder)["2 images per class, hard labels"]
    assert methods.count("2 sets") == 2 and "(seed 0)" not in methods
    assert [
        sets.count(f"{name} (seed {seed})") for name in ("random", "rded") for seed in (0, 1)
    ] == [
        1,
        1,
        1,
        1,
    ]
    assert "full data" not in sets


def test_scores_are_in_leaderboard_and_csv(folder):
    # Accuracies are 55 and 55.33 at IPC 1: HLR 0.348, no improvement over random.
    lrs = scores.label_robust_score(0.0, 0.9 - 0.5516667)
    table = boards(folder)["1 image per class, hard labels"][0]
    shown = re.findall(r'<td[^>]*class="score" data-name="LRS"[^>]*>(.*?)</td>', table)
    assert shown == [f"{lrs:.3f}"] * 2 + ["–"]
    with open(folder / "x.csv") as file:
        rows = list(csv.DictReader(file))
    of_sets = {
        (row["hlr"], row["lrs"]) for row in rows if row["kind"] != "full_data" and row["ipc"] == "1"
    }
    assert of_sets == {("0.3483", f"{lrs:.4f}")}
    full = [row for row in rows if row["kind"] == "full_data"]
    assert len(full) == 4
    assert {(row["lrs"], row["image_bytes"]) for row in full} == {("", "1200")}


def test_full_data_of_all_ipcs_have_one_lineage_and_one_row_of_the_table(folder):
    text = (folder / "x.html").read_text()
    ids = re.findall(r'<details id="(lineage-\d+)" data-method="full data, 9 epochs"', text)
    assert len(ids) == 1
    links = re.findall(rf'<tr[^>]*class="reference">.*?href="#{ids[0]}"', text, re.S)
    assert len(links) == 2
    lines = (folder / "x.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("| full data")]
    assert [cell.strip() for cell in line.split("|")[1:5]] == [
        "full data, 9 epochs",
        "all",
        "–",
        "90.0 ± 0.0",
    ]
