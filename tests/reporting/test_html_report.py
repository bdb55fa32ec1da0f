import base64
import html
import html.parser
import itertools
import re
import shutil
import subprocess
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

from tests.reporting import fakes

REPORT = Path(__file__).parents[2] / "workflow/report"
PICTURES = {
    "terms-rded-seed0.svg": ("Loss terms", "terms"),
    "heat_maps-rded-seed0.png": ("Class scores", "heat_maps"),
    "latents-random-seed0.svg": ("Latents before and after inversion", "latents"),
    "terms-random-seed0.svg": ("Loss terms", "terms"),
}
NUMBERS = "stillhouse.reporting.latent_space:number_table"
SHARED = "random, <b>&{{ 1 }}"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def inversion(**changes):
    """Return a row of the latent chart's CSV, with round numbers."""
    measures = itertools.product(("skewness", "kurtosis", "normal_share"), ("before", "after"))
    numbers = {f"{name}_{when}": i / 8 for i, (name, when) in enumerate(measures)}
    last = {"latent_mse": 0.00123, "psnr": 31.25, "loss_chosen": 2.5, "loss_random": 12.75}
    row = {"method": "m", "distill_seed": 0, "ipc": 1, "snapshot": 31}
    return {**row, **numbers, **last, **changes}


def put_tables(cells):
    """Make the tables of cells in the working directory."""
    Path("signatures.json").write_text("{}")
    inputs = {
        "published": [],
        "signatures": [Path("signatures.json")],
        "indexes": [],
        "datasets": [],
    }
    outputs = {name: Path(f"x.{name}") for name in ("csv", "markdown", "latex")}
    tables.tables(inputs, {"cells": cells}, outputs)


def put_charts(cells):
    """Draw the charts of cells in the working directory; return {name: paths}."""
    paths = {name: Path(f"{name}.svg") for name in html_report.CHARTS}
    charts.charts({"csv": [Path("x.csv")]}, {"cells": cells}, paths)
    charts.curves({}, {"cells": cells}, {"svg": paths["curves"]})
    return {name: [path] for name, path in paths.items()}


def put_sheets(cells):
    """Draw the contact sheets of cells in the working directory; return {path: identity}."""
    sheets = {}
    for cell in cells:
        kind = cell["kind"]
        path = Path(f"{kind}-ipc{cell['ipc']}.png")
        images = Path(f"results/distilled/{kind}-ipc{cell['ipc']}/images.parquet")
        contact_sheets.contact_sheet({"set": [images]}, {"title": path.name}, {"png": path})
        sheets[path] = {name: cell[name] for name in ("method", "ipc", "distill_seed")}
    return sheets


def put_pictures():
    """Draw the figures of methods; return the page's inputs for them."""
    points = np.random.default_rng(0).normal(size=(3, 9, 4))
    svg = latent_space.draw({"a": points, "b": points}, inversion())
    Path("latents-random-seed0.svg").write_bytes(svg)
    rows = [inversion(), inversion(ipc=10, kurtosis_before=float("nan"))]
    pd.DataFrame(rows).to_csv("latents-random-seed0.csv", index=False)
    Image.new("RGB", (1200, 300), "black").save("heat_maps-rded-seed0.png")
    for method in ("rded", "random"):
        curve = {"cross_entropy": [2.0, 1.0]}
        chart = synthesis_progress.loss_terms(curve, 10, method)
        Path(f"terms-{method}-seed0.svg").write_bytes(chart)
    return {
        "pictures": [Path(name) for name in PICTURES],
        "numbers": [Path("latents-random-seed0.csv")],
    }


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write the page of an experiment, one of whose methods has markup in its name."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cells = fakes.put_experiment()
        cells = [
            {**cell, "method": "<b>&{{ 1 }}" if cell["method"] == "rded" else "random"}
            for cell in cells
        ]
        put_tables(cells)
        sheets = put_sheets(cells)
        inputs = {
            **put_charts(cells),
            **put_pictures(),
            "csv": [Path("x.csv")],
            "indexes": [],
            "datasets": [],
            "sheets": list(sheets),
            "captions": sorted(REPORT.glob("*.rst")),
            "template": [REPORT / "page.html.jinja"],
        }
        pictures = [
            {
                **{"title": title, "caption": caption, "methods": SHARED.split(", ")},
                **{"distill_seed": 0, "numbers": NUMBERS if caption == "latents" else ""},
            }
            for title, caption in PICTURES.values()
        ]
        params = {"cells": cells, "sheets": list(sheets.values()), "pictures": pictures}
        html_report.page(inputs, params, {"html": Path("x.html")})
        text = Path("x.html").read_text()
    return SimpleNamespace(folder=folder, text=text, inputs=inputs, params=params)


class Reader(html.parser.HTMLParser):
    """Records every tag with its attributes and open tags; fails on tags that do not match."""

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


def section(page, name):
    return page.text.split(f'<section id="{name}">')[1].split("</section>")[0]


def images_of(text):
    return [base64.b64decode(data) for data in re.findall(r'<img src="data:[^,]*,([^"]*)"', text)]


def test_a_page_loads_nothing_from_outside(page):
    for tag, attributes, _ in Reader(page.text).tags:
        for name in {"src", "href", "action", "srcset"} & attributes.keys():
            assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    assert not re.search(r"@import|url\(|fetch\(|<script src", page.text)


def test_images_have_alternative_texts_and_tables_have_captions_and_headings(page):
    tags = Reader(page.text).tags
    images = [attributes for tag, attributes, _ in tags if tag == "img"]
    assert all(len(attributes["alt"]) > 10 for attributes in images)
    count = {name: len([tag for tag, *_ in tags if tag == name]) for name in ("table", "caption")}
    assert count["table"] == count["caption"] == 3
    scopes = [attributes["scope"] for tag, attributes, _ in tags if tag == "th"]
    assert {"row", "col", "colgroup"} == set(scopes)
    ids = [attributes["id"] for _, attributes, _ in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_tab_has_a_section(page):
    tags = Reader(page.text).tags
    tabs = [a["href"] for tag, a, parents in tags if tag == "a" and parents[-1] == "nav"]
    sections = [f"#{attributes['id']}" for tag, attributes, _ in tags if tag == "section"]
    assert tabs == sections
    assert tabs == ["#table", "#charts", "#images", "#methods", "#costs", "#lineage"]


def test_names_are_escaped(page):
    assert "<b>" not in page.text
    assert "&lt;b&gt;&amp;{{ 1 }}" in page.text


def test_a_page_shows_the_table_of_the_markdown(page):
    lines = [line for line in (page.folder / "x.markdown").read_text().splitlines() if line]
    rows = [line for line in lines if line.startswith("|")][2:]
    wanted = [cell.strip() for line in rows for cell in line.strip("|").split("|")]
    texts = Reader(page.text.split('<section id="charts">')[0].split("<main>")[1]).texts
    shown = [text.replace("\xa0", " ") for text, tags in texts if tags[-2:-1] == ("tr",) and text]
    assert [
        text for text in shown if not re.fullmatch(r"\w+ \[(%|kB|kbit per class|s)\]", text)
    ] == wanted
    notes = [line[2:].replace("`", "") for line in lines if line.startswith("- ")]
    assert list_items(page) == notes


def list_items(page):
    items = re.findall(r"<li>(.*)</li>", section(page, "table"))
    return [html.unescape(item) for item in items]


def test_a_page_has_every_chart_and_every_sheet(page):
    inputs = page.inputs
    wanted = [*(inputs[name][0] for name in html_report.CHARTS), *inputs["sheets"]]
    wanted += inputs["pictures"]
    found = images_of(page.text)
    assert len(found) == len(wanted) == 12
    assert set(found) == {(page.folder / path).read_bytes() for path in wanted}


def test_sheets_are_grouped_by_images_per_class(page):
    found = re.findall(r"<h3>(.*)</h3>|<figcaption>(.*)</figcaption>", section(page, "images"))
    name = "&lt;b&gt;&amp;{{ 1 }}"
    assert [heading or caption for heading, caption in found] == [
        *("1 image per class", "random, IPC 1", f"{name}, IPC 1"),
        *("2 images per class", "random, IPC 2", f"{name}, IPC 2"),
    ]


def test_pictures_are_grouped_by_title_with_their_captions(page):
    part, order = section(page, "methods"), [0, 3, 1, 2]
    files = [list(PICTURES)[i] for i in order]
    titles = re.findall(r"<h3>(.*)</h3>", part)
    assert titles == [f"{PICTURES[name][0]}: {html.escape(SHARED)}" for name in files]
    captions = [" ".join(text.split()) for text in re.findall(r"<figcaption>(.*)</f", part)]
    for name, caption in zip(files, captions, strict=True):
        text = (REPORT / f"{PICTURES[name][1]}.rst").read_text()
        assert html.unescape(caption) == " ".join(text.split())
    assert images_of(part) == [(page.folder / name).read_bytes() for name in files]


def test_inversions_have_a_table_of_numbers(page):
    part = section(page, "methods").split("</table>")[0]
    heads = re.findall(r'<th scope="colgroup" colspan="(\d)" class="first">(.*)</th>', part)
    assert [(int(span), head) for span, head in heads] == [
        (1, "inversion"),
        (2, "mean |skewness|"),
        (2, "mean kurtosis"),
        (2, "normal dimensions [%]"),
        (1, "round trip"),
        (1, "round trip [dB]"),
        (2, "group loss"),
    ]
    rows = [re.findall(r"<td[^>]*>(.*)</td>", row) for row in part.split("<tr>")[3:]]
    same = ["50.0", "62.5", "0.00123", "31.2", "2.5", "12.75"]
    assert rows == [
        ["1", "31", "0.00", "0.12", "0.25", "0.38", *same],
        ["10", "31", "0.00", "0.12", "–", "0.38", *same],
    ]


def test_a_page_without_pictures_has_no_section_for_them(page, tmp_path, monkeypatch):
    monkeypatch.chdir(page.folder)
    inputs = {**page.inputs, "pictures": [], "numbers": []}
    html_report.page(inputs, {**page.params, "pictures": []}, {"html": tmp_path / "x.html"})
    text = (tmp_path / "x.html").read_text()
    assert 'href="#methods"' not in text and '<section id="methods">' not in text


def test_a_page_notes_saturation(page):
    (note,) = [note for note in list_items(page) if "saturate" in note]
    assert note.startswith("At IPC 2, soft, student s: no method differs from random by more")


def test_every_accuracy_has_its_lineage(page):
    lineages = re.findall(
        r"<summary>(.*?)</summary>\s*<div class=\"lineage\">(.*?)</div>", page.text, re.S
    )
    assert len(lineages) == 8
    for name, text in lineages:
        method, ipc, protocol = re.fullmatch(
            r"(.*), IPC (\d), (\w+), student s: [\d.]+\xa0±\xa0[\d.]+", name
        ).groups()
        kind = "random" if method == "random" else "rded"
        assert f", results/students/{kind}-ipc{ipc}-{protocol}/seed0" in text.splitlines()[0]
        assert ", results/index/digits" in text


def test_equal_results_give_equal_pages(page, tmp_path, monkeypatch):
    monkeypatch.chdir(page.folder)
    html_report.page(page.inputs, page.params, {"html": tmp_path / "again.html"})
    assert (tmp_path / "again.html").read_text() == page.text


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium; Debian's package is enough")
def test_a_browser_renders_the_page(page, tmp_path):
    path = tmp_path / "page.png"
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1280,900")
    url = (page.folder / "x.html").as_uri()
    subprocess.run([BROWSER, *options, f"--screenshot={path}", url], check=True, timeout=600)
    pixels = np.asarray(Image.open(path).convert("L"))
    assert pixels.shape == (900, 1280)
    # Text and the lines of the table, on white.
    assert 0.01 < (pixels < 200).mean() < 0.3
