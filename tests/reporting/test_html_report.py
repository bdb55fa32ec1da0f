import base64
import contextlib
import html.parser
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from stillhouse.reporting import (
    charts,
    contact_sheets,
    html_report,
    latent_space,
    synthesis_progress,
    tables,
)

from tests.reporting.test_table_layout import frame

REPORT = Path(__file__).parents[2] / "workflow/report"
TABS = {
    "real": ["Table", "Charts", "Images", "Costs", "Lineage"],
    "crowded": ["Table", "Charts", "Images", "Choices", "Costs", "Lineage"],
}
CAPTIONS = [*html_report.CHARTS, *html_report.PICTURES]
WIDTHS = [1280, 390]  # px: a small laptop, a phone


def inputs_of(folder, cells):
    """Return the page's inputs but its sheets; charts are drawn from the CSV in the folder."""
    params = {"cells": cells}
    paths = [Path(cell["artifact"]) / "cell.json" for cell in cells]
    made = {name: folder / f"{name}.svg" for name in html_report.CHARTS}
    charts.charts({"csv": [folder / "x.csv"]}, params, made)
    charts.curves({"cells": paths}, params, {"svg": made["curves"]})
    return {
        **{name: [path] for name, path in made.items()},
        "csv": [folder / "x.csv"],
        "cells": paths,
        "indexes": [],
        "pictures": [],
        "inversions": [],
        "captions": [REPORT / f"{name}.rst" for name in CAPTIONS],
        "template": [REPORT / "page.html.jinja"],
    }


def inversion(**changes):
    """Return a row of the latent chart's CSV, with round numbers."""
    measures = itertools.product(("skewness", "kurtosis", "normal_share"), ("before", "after"))
    numbers = {f"{name}_{when}": i / 8 for i, (name, when) in enumerate(measures)}
    last = {"latent_mse": 0.00123, "psnr": 31.25, "loss_chosen": 2.5, "loss_random": 12.75}
    row = {"method": "m", "distill_seed": 0, "ipc": 1, "snapshot": 31}
    return {**row, **numbers, **last, **changes}


def put_pictures(place, methods):
    """Draw pictures of methods; return the page's inputs and params for them."""
    points = np.random.default_rng(0).normal(size=(3, 9, 4))
    svg = latent_space.draw({"a": points, "b": points}, inversion())
    (place / "latents.svg").write_bytes(svg)
    Image.new("RGB", (1200, 300), "black").save(place / "maps.png")
    Image.new("RGB", (500, 2000), "black").save(place / "clusters.png")
    rows = [inversion(), inversion(ipc=10, kurtosis_before=float("nan"))]
    pd.DataFrame(rows).to_csv(place / "latents.csv", index=False)
    one = {"methods": methods, "distill_seed": 0}
    (place / "terms.svg").write_bytes(
        synthesis_progress.terms({"cross_entropy": [2.0, 1.0]}, 10, "x")
    )
    Image.new("RGB", (700, 350), "black").save(place / "synthesis.png")
    kinds = {
        **{"terms": "terms.svg", "synthesis": "synthesis.png", "heat_maps": "maps.png"},
        **{"latents": "latents.svg", "clusters": "clusters.png"},
    }
    inputs = {
        "pictures": [place / name for name in kinds.values()],
        "inversions": [place / "latents.csv"],
    }
    return inputs, {"pictures": [{"what": kind, **one} for kind in kinds]}


def identity(cell):
    return {name: cell[name] for name in ("method", "ipc", "distill_seed")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def real(kitchen, folder):
    """Make the page of the tiny config; return its path, text and cells."""
    with contextlib.chdir(kitchen.folder):
        plan = kitchen.plan.experiments["x"]
        cells = [{**cell, "artifact": str(cell["artifact"].directory)} for cell in plan]
        made = {name: folder / f"x.{name}" for name in ("csv", "markdown", "latex")}
        paths = [Path(cell["artifact"]) / "cell.json" for cell in cells]
        tables.tables({"cells": paths, "published": [], "indexes": []}, {"cells": cells}, made)
        sheets = {}
        for cell in plan:
            artifact = cell["artifact"].upstream["distilled"]
            path = folder / f"{artifact.name}-{artifact.keys['ipc']}.png"
            given = {"set": [artifact.directory / "images.parquet"]}
            contact_sheets.contact_sheet(given, {"title": str(path.name)}, {"png": path})
            sheets[path] = identity(cell)
        inputs = {**inputs_of(folder, cells), "sheets": list(sheets)}
        params = {"cells": cells, "sheets": list(sheets.values()), "pictures": []}
        path = folder / "real.html"
        html_report.page(inputs, params, {"html": path})
    return SimpleNamespace(path=path, text=path.read_text(), inputs=inputs, params=params)


@pytest.fixture(scope="module")
def crowded(real, kitchen, folder):
    """Make a page of long names: seven methods, three IPCs, three protocols, two students."""
    methods = [f"a-method-with-quite-a-long-name-{i}" for i in range(6)] + ["<b>&{{ 1 }}"]
    kinds = ["soft-labels-of-two-teachers", "hard", "soft-without-mixing"]
    students = ["resnet18_modified-with-a-name", "convnet3"]
    rows, cells = [], []
    for student, method, ipc, protocol in itertools.product(students, methods, (1, 10, 50), kinds):
        words = {"student": student, "method": method, "ipc": ipc, "protocol": protocol}
        part = frame(**words, published=51.5, dataset="a-dataset-with-a-long-name")
        part = part.assign(fidelity="code", arch="convnet3", digest="0", teacher="t")
        part["kind"] = "random" if method == methods[0] else "d3hr"
        rows.append(
            part.assign(experiment="an-experiment-with-a-name-as-long-as-names-may-be-here")
        )
        cells += [
            {**row, "artifact": real.params["cells"][0]["artifact"]}
            for row in rows[-1].to_dict("records")
        ]
    place = folder / "crowded"
    place.mkdir()
    table = pd.concat(rows, ignore_index=True).reindex(columns=tables.COLUMNS)
    table.assign(seconds_denoiser=7.0).to_csv(place / "x.csv", index=False)
    Image.new("RGB", (700, 1400), "black").save(place / "x.png")
    sheets = [{"method": m, "ipc": ipc, "distill_seed": 0} for m in methods for ipc in (1, 10, 50)]
    pictures, params = put_pictures(place, methods[-2:])
    params = {"cells": cells, "sheets": sheets, **params}
    with contextlib.chdir(kitchen.folder):
        inputs = {**inputs_of(place, cells), **pictures, "sheets": [place / "x.png"] * len(sheets)}
        html_report.page(inputs, params, {"html": place / "x.html"})
    return SimpleNamespace(path=place / "x.html", text=(place / "x.html").read_text())


@pytest.fixture(params=["real", "crowded"])
def made(request):
    page = request.getfixturevalue(request.param)
    page.tabs = TABS[request.param]
    return page


class Reader(html.parser.HTMLParser):
    """Keeps every tag with its attributes, and what is open; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((data.strip(), tuple(self.open)))


def test_a_page_asks_for_nothing_outside_itself(made):
    for tag, attributes, _ in Reader(made.text).tags:
        for name in ("src", "href", "action", "srcset"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    assert not re.search(r"@import|url\(|fetch\(|<script src", made.text)


def test_every_image_has_words_every_table_a_caption_every_cell_a_head(made):
    tags = Reader(made.text).tags
    images = [attributes for tag, attributes, _ in tags if tag == "img"]
    assert all(len(attributes["alt"]) > 10 for attributes in images)
    count = {name: len([tag for tag, *_ in tags if tag == name]) for name in ("table", "caption")}
    assert count["table"] == count["caption"] >= 2
    scopes = [attributes["scope"] for tag, attributes, _ in tags if tag == "th"]
    assert {"row", "col", "colgroup"} == set(scopes)
    ids = [attributes["id"] for _, attributes, _ in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_names_are_words_and_not_markup(crowded):
    assert "<b>" not in crowded.text
    assert "&lt;b&gt;&amp;{{ 1 }}" in crowded.text


def test_a_page_shows_the_table_of_the_markdown(real, folder):
    lines = [line for line in (folder / "x.markdown").read_text().splitlines() if line[0:1] == "|"]
    wanted = [cell.strip() for line in lines[2:] for cell in line.strip("|").split("|")]
    texts = Reader(real.text.split('<section id="charts">')[0].split("<main>")[1]).texts
    shown = [text.replace("\xa0", " ") for text, tags in texts if tags[-2:-1] == ("tr",) and text]
    assert [text for text in shown if not re.fullmatch(r"\w+ \[(%|kB|s)\]", text)] == wanted


def test_a_page_holds_every_chart_and_every_sheet(real):
    sources = [a["src"] for tag, a, _ in Reader(real.text).tags if tag == "img"]
    held = {base64.b64decode(source.partition(",")[2]) for source in sources}
    wanted = [*(real.inputs[name][0] for name in html_report.CHARTS), *real.inputs["sheets"]]
    assert len(sources) == len(wanted) == 8
    assert held == {path.read_bytes() for path in wanted}


def test_sheets_stand_side_by_side_by_images_per_class(real):
    images = real.text.split('<section id="images">')[1].split('<section id="costs">')[0]
    found = re.findall(r"<h3>(.*)</h3>|<figcaption>(.*)</figcaption>", images)
    assert [heading or caption for heading, caption in found] == [
        *("1 image per class", "random, IPC 1", "rded, IPC 1"),
        *("2 images per class", "random, IPC 2", "rded, IPC 2"),
    ]


def test_what_methods_chose_and_made_is_there_where_there_are_such_methods(real, crowded):
    assert "What methods chose" not in real.text
    part = crowded.text.split('<section id="choices">')[1].split("</section>")[0]
    name = "a-method-with-quite-a-long-name-5, &lt;b&gt;&amp;{{ 1 }}"
    assert re.findall(r"<h3>(.*)</h3>", part) == [
        f"{title}: {name}" for title in html_report.PICTURES.values()
    ]
    captions = [" ".join(text.split()) for text in re.findall(r"<figcaption>(.*)</f", part)]
    for what, caption in zip(html_report.PICTURES, captions, strict=True):
        told = " ".join((REPORT / f"{what}.rst").read_text().split())
        assert html.unescape(caption) == told
    place = crowded.path.parent
    names = ("latents.svg", "maps.png", "clusters.png", "synthesis.png", "terms.svg")
    wanted = [place / name for name in names]
    sources = re.findall(r'<img src="data:[^,]*,([^"]*)"', part)
    assert [base64.b64decode(one) for one in sources] == [path.read_bytes() for path in wanted]


def test_the_inversion_is_told_in_numbers(crowded):
    part = crowded.text.split('<section id="choices">')[1].split("</table>")[0]
    heads = re.findall(r'<th scope="colgroup" colspan="(\d)" class="first">(.*)</th>', part)
    assert [(int(span), head) for span, head in heads] == [
        (1, "inversion"),
        (2, "mean |skewness|"),
        (2, "mean kurtosis"),
        (2, "normal dimensions [%]"),
        (1, "round trip"),
        (1, "round trip [dB]"),
        (2, "loss of the group"),
    ]
    rows = [re.findall(r"<td[^>]*>(.*)</td>", row) for row in part.split("<tr>")[3:]]
    same = ["50.0", "62.5", "0.00123", "31.2", "2.5", "12.75"]
    assert rows == [
        ["1", "31", "0.00", "0.12", "0.25", "0.38", *same],
        ["10", "31", "0.00", "0.12", "–", "0.38", *same],
    ]


def test_a_page_says_where_soft_labels_saturate(crowded):
    # All its methods have the same accuracies.
    told = [note for note in re.findall(r"<li>(.*)</li>", crowded.text) if "saturate" in note]
    assert len(told) == 6
    assert told[0].startswith(
        "At IPC 50, soft-labels-of-two-teachers, student resnet18_modified-with-a-name: no method "
        "differs from a-method-with-quite-a-long-name-0 by more than"
    )


def test_every_number_tells_how_it_came_about(real):
    told = re.findall(
        r"<summary>(.*?)</summary>\s*<div class=\"lineage\">(.*?)</div>", real.text, re.S
    )
    assert len(told) == 8
    for what, text in told:
        method, ipc, protocol = re.fullmatch(
            r"(\w+), IPC (\d), (\w+), student s: [\d.]+\xa0±\xa0[\d.]+", what
        ).groups()
        head = f"a student, results/students/three-{method}-ipc{ipc}-seed0-{protocol}-convnet1-"
        assert text.startswith(head)
        assert "the index of source, results/index/digits-" in text


def test_the_same_results_give_the_same_page(real, kitchen, tmp_path):
    with contextlib.chdir(kitchen.folder):
        html_report.page(real.inputs, real.params, {"html": tmp_path / "again.html"})
    assert (tmp_path / "again.html").read_text() == real.text


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_in_any_tab(browser, made, width):
    browser.open(made.path, width)
    for number, tab in enumerate(made.tabs):
        browser.click("nav a", number)
        shown = "[...document.querySelectorAll('section')].filter((s) => s.clientHeight)"
        assert browser.ask(f"{shown}.map((s) => s.id)") == [tab.lower()]
        assert browser.cut_off() == [], tab
        empty = f"{shown}[0].querySelectorAll('img')].filter((i) => !i.complete || !i.naturalWidth)"
        assert browser.ask(f"[...{empty}.length") == 0
    for number in range(browser.ask("document.querySelectorAll('summary').length"))[:3]:
        browser.click("summary", number)
    assert browser.ask("document.querySelectorAll('details[open]').length") == 3
    assert browser.cut_off() == []
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [
        made.path.resolve().as_uri()
    ]


def test_what_is_cut_off_would_be_seen(browser, real):
    browser.open(real.path, 390)
    assert browser.cut_off() == []
    for style in ("width: 400px", "width: 50px; overflow: hidden; white-space: nowrap"):
        bad = f"<p id=bad style='{style}'>some words here</p>"
        browser.ask(f'document.querySelector("h2").innerHTML = "{bad}"')
        assert any("bad" in element for element in browser.cut_off()), style


def test_a_table_fits_a_laptop_and_scrolls_in_its_box_on_a_phone(browser, real):
    box = "document.querySelector('.scroll')"
    hidden = f"{box}.scrollWidth - {box}.clientWidth"
    browser.open(real.path, 1280)
    assert browser.ask(hidden) == 0
    browser.open(real.path, 390)
    assert browser.ask(hidden) > 100
    browser.ask(f"{box}.scrollLeft = 10000")
    # The names of the rows stay in sight.
    assert browser.ask("document.querySelector('tbody th').getBoundingClientRect().left") == 16


def test_tables_are_sorted_by_a_click_on_a_heading(browser, crowded):
    browser.open(crowded.path, 1280)
    column = (
        "[...document.querySelector('table').tBodies[0].rows].map((r) => r.cells[1].textContent)"
    )
    before = browser.ask(column)
    state = (
        "[...document.querySelectorAll('table')[0].querySelectorAll('th[scope=col]')][1].ariaSort"
    )
    for direction in ("ascending", "descending"):
        browser.click("thead button", 1)
        sign = 1 if direction == "ascending" else -1
        assert browser.ask(column) == sorted(before, key=lambda text: sign * int(text)) != before
        assert browser.ask(state) == direction


def test_tabs_follow_the_keyboard(browser, real):
    browser.open(real.path, 1280)
    browser.ask("document.querySelector('nav a').focus()")
    chosen = "document.querySelector('[aria-selected=true]').textContent"
    for key, tab in [("ArrowRight", "Charts"), ("ArrowLeft", "Table"), ("ArrowLeft", "Lineage")]:
        browser.press(key)
        assert browser.ask(chosen) == browser.ask("document.activeElement.textContent") == tab


def test_without_scripts_everything_is_there(browser, real):
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(real.path, 390)
        heights = "[...document.querySelectorAll('section')].map((s) => s.clientHeight)"
        assert min(browser.ask(heights)) > 100
        assert browser.cut_off() == []
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
