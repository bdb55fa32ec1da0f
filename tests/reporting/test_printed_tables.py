"""Published rows are those of the printed tables, in their order, where the papers' text is.

The folder is named by STILLHOUSE_PAPERS and is no part of the project; without it the tests are
skipped. The text of each paper is a file, with captions at the beginning of lines.
"""

import csv
import os
import re
from pathlib import Path

import pytest

PUBLISHED = Path(__file__).parents[2] / "workflow/published"
FOLDER = os.environ.get("STILLHOUSE_PAPERS", "")
TEXTS = {
    "rded": "rded-supplement.txt",
    "ruo": "rate-utility-supplement.txt",
    "ddps": "diffusion-patch-selection.txt",
    "edc": "edc.txt",
    "d3hr": "d3hr.txt",
}
CAPTION = re.compile(r"^Table (A?\d+)[.:]", re.M)
NUMBER = r"\d+(?:\.\d+)?"

pytestmark = pytest.mark.skipif(not FOLDER, reason="STILLHOUSE_PAPERS is not set")


def tables():
    """Return (paper, table, its rows) of all published numbers that are in a table."""
    found = {}
    for paper in TEXTS:
        with open(PUBLISHED / f"{paper}.csv", newline="") as stream:
            for row in csv.DictReader(stream):
                found.setdefault((paper, row["table"]), []).append(row)
    return [(*key, rows) for key, rows in found.items()]


def printed(paper, table):
    """Return the text between a table's caption and the next or, above captions, the previous."""
    text = (Path(FOLDER) / TEXTS[paper]).read_text()
    captions = list(CAPTION.finditer(text))
    (i,) = [i for i, match in enumerate(captions) if match[1] == table]
    if paper == "ruo":
        end = captions[i + 1].start() if i + 1 < len(captions) else len(text)
        return text[captions[i].end() : end]
    return text[captions[i - 1].end() if i else 0 : captions[i].start()]


def numbers(text):
    """Return (value, deviation) of all numbers of a text in order; without one, it is empty."""
    text = re.sub(r"</?\w+>|[$*]", "", text).replace(r"\pm", "±")
    text = re.sub(r"±(?:plus-or-minus)?±?", "±", text.replace("±plus-or-minus±±", "±"))
    # A web page's formulas have a number without a deviation four times.
    text = re.sub(r"(?<![\d.])(\d\d\.\d)\1{3}(?![\d.])", r"\1", text)
    pairs = re.finditer(rf"({NUMBER})(?:\s*±\s*({NUMBER}))?", text)
    return [(match[1], match[2] or "") for match in pairs]


@pytest.mark.parametrize(
    ("paper", "table", "rows"), tables(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_rows_are_the_numbers_of_the_print_in_its_order(paper, table, rows):
    found = iter(numbers(printed(paper, table)))
    for row in rows:
        assert (row["value"], row["std"]) in found, row


@pytest.mark.parametrize(
    ("paper", "table", "rows"),
    # The text of D3HR, a web page, has each number several times.
    [table for table in tables() if table[0] != "d3hr"],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_number_with_a_deviation_has_a_row(paper, table, rows):
    pairs = [pair for pair in numbers(printed(paper, table)) if pair[1]]
    assert pairs == [(row["value"], row["std"]) for row in rows if row["std"]]
