"""``snakemake --report`` after a finished run: what it holds, and our page inside it."""

import base64
import json
import re

import pytest

pytestmark = pytest.mark.workflow

CATEGORIES = {"Charts": 4, "Images": 2, "Page": 1, "Tables": 3}


@pytest.fixture(scope="module")
def report(cold, tmp_path_factory):
    """Make the report of the finished run; return its path."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    cold.make("--report", path)
    return path


def value(report, name):
    """Return what the report's script keeps under a name."""
    text = report.read_text()
    begin = re.search(rf'<script id="{name}">\s*var {name} = ', text).end()
    return json.JSONDecoder().raw_decode(text, begin)[0]


def test_the_report_holds_tables_charts_images_and_our_page(cold, report):
    results = value(report, "results")
    held = {
        path: base64.b64decode(entry["data_uri"].rpartition("base64,")[2])
        for path, entry in results.items()
    }
    wanted = {"results/report/tiny.html"}
    wanted |= {f"results/tables/tiny.{suffix}" for suffix in ("csv", "md", "tex")}
    wanted |= {
        f"results/figures/tiny/{name}.svg" for name in ("accuracy", "bytes", "cost", "curves")
    }
    wanted |= {f"results/{path}" for path in cold.paths("figures/few/*/*.png")}
    assert set(held) == wanted
    assert all(data == (cold / path).read_bytes() for path, data in held.items())
    for path, entry in results.items():
        assert entry["labels"], path
        assert len(entry["caption"]) > 40, path
        assert "{{" not in entry["caption"]


def test_results_are_in_their_categories(report):
    found = value(report, "categories")
    counts = {name: sum(len(paths) for paths in parts.values()) for name, parts in found.items()}
    assert counts == CATEGORIES


def test_a_report_leaves_nothing_to_do(cold, report):
    assert cold.jobs() == {}


def test_our_page_opens_inside_the_report(browser, report):
    browser.open(report, 1280)
    names = "[...document.querySelectorAll('a')].map((a) => a.textContent)"
    browser.until(f"{names}.includes('Page')")
    browser.click("a", browser.ask(names).index("Page"))
    browser.until("document.querySelector('table a')")
    browser.click("table a")
    browser.until("document.querySelector('iframe')")
    browser.until("document.querySelectorAll('nav a[aria-selected]').length === 5", inside=True)
    assert browser.ask("document.querySelector('h1').textContent", inside=True) == "tiny"
    hidden = "document.documentElement.scrollWidth - innerWidth"
    for number, tab in enumerate(["table", "charts", "images", "costs", "lineage"]):
        browser.ask(f"document.querySelectorAll('nav a')[{number}].click()", inside=True)
        shown = "[...document.querySelectorAll('section')].filter((s) => s.clientHeight)"
        assert browser.ask(f"{shown}.map((s) => s.id)", inside=True) == [tab]
        assert browser.ask(hidden, inside=True) <= 0
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [report.as_uri()]
