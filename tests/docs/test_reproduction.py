"""The table of all published tables has their numbers, cells and presets."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reproduction.md").read_text()
PUBLISHED = sorted((ROOT / "workflow/published").glob("*.csv"))


def rows():
    """Return all published numbers."""
    for path in PUBLISHED:
        with open(path, newline="") as stream:
            yield from csv.DictReader(stream)


def listed():
    """Return {table: (numbers, numbers with cells, presets)} of the page."""
    found = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[2].isdigit():
            presets = frozenset(re.findall(r"`([\w-]+)`", cells[4]))
            assert cells[0] not in found
            found[cells[0]] = (int(cells[2]), int(cells[3]), presets)
    return found


def test_every_published_table_is_listed_with_its_numbers_and_presets():
    expected = {}
    for row in rows():
        table = f"{row['paper']} {row['table']}".strip()
        n, with_cells, presets = expected.get(table, (0, 0, frozenset()))
        own = {cell.split("/")[0] for cell in row["preset"].split()}
        expected[table] = (n + 1, with_cells + bool(own), presets | own)
    assert listed() == expected
    n, with_cells = (sum(one[i] for one in expected.values()) for i in (0, 1))
    assert f"has {n:,} numbers" in PAGE and f"{with_cells} of them have cells" in PAGE


def test_every_preset_of_a_paper_reproduces_a_table():
    names = {path.stem for path in (ROOT / "workflow/presets").glob("*.yaml")}
    own = {name for name in names if name.startswith("digits-") or name.endswith("-tune")}
    # CDA's tables are not at hand.
    own |= {"cda-imagenet"}
    # Methods of papers, at settings for a CPU.
    own |= {"diffusion-cifar10-convnet3", "edc-cifar10-convnet3", "ruo-cifar10-convnet3"}
    own |= {"cifar10-label-rates", "edc-cifar10-epochs"}
    assert names - own == frozenset().union(*(presets for *_, presets in listed().values()))


def test_every_table_with_a_misprint_is_named():
    section = PAGE.partition("## Misprints")[2]
    for row in rows():
        if "misprint" in row["note"]:
            assert re.search(rf"^\| {row['paper']} [A\d, ]*\b{row['table']}\b", section, re.M), row


def test_the_readme_has_the_numbers_of_the_page():
    readme = (ROOT / "README.md").read_text()
    pairs = re.findall(r"\| (\d+\.\d) / (\d+\.\d)", readme)
    assert len(pairs) > 2
    for ours, theirs in pairs:
        assert re.search(rf"{ours}(?: ± [\d.]+)? / {theirs}", PAGE), (ours, theirs)
