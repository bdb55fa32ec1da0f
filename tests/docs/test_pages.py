"""Pages in Markdown: their links lead somewhere, their lines are short, the map has them all."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs import markdown

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Paths of files in the repository, in inline code.
FILE = re.compile(r"`((?:docs|envs|profiles|tests|workflow)/[\w./-]+)`")


def text_of(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_to_files_and_headings(name):
    broken, page = [], ROOT / name
    for target in markdown.links(text_of(page)):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if re.match(r"[a-z]+:", target):
            continue
        if not file.exists() or (anchor and anchor not in markdown.anchors(text_of(file))):
            broken.append(target)
    assert broken == []


def test_lines_have_at_most_120_characters():
    # Rows of tables, and links that cannot be broken, may be longer.
    lines = [(name, *line) for name in NAMES for line in markdown.prose(text_of(ROOT / name))]
    lines = [line for line in lines if not markdown.ROW.match(line[2])]
    assert [line for line in lines if len(line[2]) > 120 and " " in line[2]] == []


def test_files_of_the_repository_that_pages_name_exist():
    named = {
        (name, path)
        for name in NAMES
        if name != "CHANGELOG.md"
        for path in FILE.findall(text_of(ROOT / name))
    }
    assert {(name, path) for name, path in named if not (ROOT / path).exists()} == set()


def test_the_map_has_every_page():
    index = ROOT / "docs/index.md"
    listed = {(index.parent / target).resolve() for target in markdown.links(text_of(index))}
    pages = set(ROOT.glob("docs/**/*.md")) - {index}
    assert {str(page.relative_to(ROOT)) for page in pages - listed} == set()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) < 9000
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 40


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    package = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])


def test_anchors_are_those_of_the_forges():
    text = "# A `b_c`: d, e's\n## Two\n```\n# no heading\n```\n## Two\n### [Link](x.md) - dash"
    assert markdown.anchors(text) == ["a-b_c-d-es", "two", "two-1", "link---dash"]


def test_links_in_code_are_none():
    text = "[a](b.md#c) `[d](e)`\n```\n[f](g)\n```\n![h](i.png) [j](https://k)"
    assert markdown.links(text) == ["b.md#c", "i.png", "https://k"]
