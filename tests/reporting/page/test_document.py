import base64
import html
import html.parser
import io
import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from stillhouse.reporting import tables
from stillhouse.reporting.method_figures import latent_space, synthesis_progress
from stillhouse.reporting.page import document, run_card

from tests.reporting import fakes

PICTURES = {
    "terms-rded-seed0.svg": ("Loss terms", "terms"),
    "heat_maps-rded-seed0.png": ("Class scores", "heat_maps"),
    "latents-random-seed0.svg": ("Latents before and after inversion", "latents"),
    "terms-random-seed0.svg": ("Loss terms", "terms"),
}
NUMBERS = "stillhouse.reporting.method_figures.latent_space:number_table"
SHARED = "random, <b>&{{ 1 }}"


def inversion(**changes):
    """Return a row of the latent chart's CSV, with round numbers."""
    measures = itertools.product(("skewness", "kurtosis", "normal_share"), ("before", "after"))
    numbers = {f"{name}_{when}": i / 8 for i, (name, when) in enumerate(measures)}
    last = {"latent_mse": 0.00123, "psnr": 31.25, "loss_chosen": 2.5, "loss_random": 12.75}
    row = {"method": "m", "distill_seed": 0, "ipc": 1, "snapshot": 31}
    return {**row, **numbers, **last, **changes}


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
        fakes.put_tables(cells)
        inputs, params = fakes.page_inputs(cells)
        inputs |= put_pictures()
        params["pictures"] = [
            {
                **{"title": title, "caption": caption, "methods": SHARED.split(", ")},
                **{"distill_seed": 0, "numbers": NUMBERS if caption == "latents" else ""},
            }
            for title, caption in PICTURES.values()
        ]
        document.page(inputs, params, {"html": Path("x.html")})
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
        if tag not in ("meta", "link", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes), tuple(self.open)))

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
    drawn = [attributes for tag, attributes, _ in tags if tag == "svg"]
    assert all("aria-label" in one or one["aria-hidden"] == "true" for one in drawn)
    count = {name: len([tag for tag, *_ in tags if tag == name]) for name in ("table", "caption")}
    # Four leaderboards, three tables of details, one of inversions, one of costs.
    assert count["table"] == count["caption"] == 9
    scopes = [attributes["scope"] for tag, attributes, _ in tags if tag == "th"]
    assert {"row", "col", "colgroup"} == set(scopes)
    ids = [attributes["id"] for _, attributes, _ in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_tab_has_a_section(page):
    tags = Reader(page.text).tags
    tabs = [a["href"] for tag, a, parents in tags if tag == "a" and parents[-1] == "nav"]
    sections = [f"#{attributes['id']}" for tag, attributes, _ in tags if tag == "section"]
    assert tabs == sections
    assert tabs == ["#leaderboard", "#charts", "#images", "#methods", "#costs", "#lineage"]


def test_names_are_escaped(page):
    assert "<b>&" not in page.text
    assert "&lt;b&gt;&amp;{{ 1 }}" in page.text


def test_details_have_every_column_of_the_markdown(page):
    lines = [line for line in (page.folder / "x.md").read_text().splitlines() if line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    shown = [
        [[text.replace("\xa0", " ") for text in row] for row in rows_of(part)]
        for part in section(page, "leaderboard").split('<table class="sortable">')[1:]
    ]
    columns = [column for table in shown for column in zip(*table, strict=True)]
    for _, *texts in zip(*(rows[:1] + rows[2:]), strict=True):
        assert tuple(texts) in columns


def rows_of(table):
    """Return the texts of the cells of a table's rows."""
    body = table.split("<tbody>")[1].split("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", body, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    return [[html.unescape(text) for text in row] for row in cells]


def test_notes_are_those_of_the_markdown_and_saturation_is_a_banner(page):
    lines = (page.folder / "x.md").read_text().splitlines()
    notes = [line[2:].replace("`", "") for line in lines if line.startswith("- ")]
    (banner,) = re.findall(r'<p class="banner" role="note">(.*)</p>', page.text)
    assert banner.startswith("At IPC 2, soft, student s: all methods tie with random (95 %")
    items = re.findall(r"<li>(.*)</li>", section(page, "leaderboard"))
    shown = [html.unescape(item) for item in [*items, banner]]
    assert sorted(shown) == sorted([*notes, "Config: a.yaml."])
    assert banner not in items


def test_leaderboards_are_per_ipc_and_protocol(page):
    captions = re.findall(r"<caption>(\d.*?)</caption>", section(page, "leaderboard"), re.S)
    assert [" ".join(caption.split()) for caption in captions] == [
        "1 image per class, soft labels",
        "1 image per class, hard labels",
        "2 images per class, soft labels",
        "2 images per class, hard labels",
    ]


def test_every_accuracy_of_a_leaderboard_leads_to_its_lineage(page):
    links = re.findall(r'<a href="#(lineage-\d+)"', section(page, "leaderboard"))
    ids = re.findall(r'<details id="(lineage-\d+)"', section(page, "lineage"))
    assert len(links) == 8 and sorted(links) == sorted(ids)


def test_the_run_card_has_command_machine_and_tables(page):
    card = page.text.split('<details id="run-card">')[1].split("</details>")[0]
    entries = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", card))
    assert entries["command"] == "snakemake --cores all --configfile a.yaml"
    assert entries["machine"] == "abacus"
    assert entries["students trained"] == "2026-01-01"
    assert entries["teachers"] == "t (convnet1)"
    files = re.findall(r'href="data:[^,]*,([^"]*)" download="([^"]*)"', card)
    contents = {name: base64.b64decode(data) for data, name in files}
    references = contents.pop("x.bib").decode()
    assert contents == {
        f"x.{suffix}": (page.folder / f"x.{suffix}").read_bytes()
        for suffix in fakes.TABLES.values()
    }
    # The paper of RDED, random images have none, and Stillhouse.
    assert re.findall(r"^@(\w+)\{(\w+),$", references, re.M) == [
        ("inproceedings", "sun2024diversity"),
        ("misc", "stillhouse"),
    ]


def test_the_machines_of_a_run_are_those_of_all_stages(page, monkeypatch):
    monkeypatch.chdir(page.folder)
    frame = tables.read(Path("x.csv"), page.params["cells"]).assign(devices="abacus; gpu")
    frame.loc[0, "devices"] = ""
    assert run_card.run_card(frame, "", {})["machine"] == "abacus; gpu"


def test_a_page_has_a_sheet_of_every_set_and_every_picture(page):
    shown = images_of(section(page, "images"))
    sizes = [Image.open(io.BytesIO(data)).size for data in shown]
    # Three classes of 8 px, one and two images each, of two methods.
    assert sizes == [(24, 8)] * 2 + [(24, 16)] * 2
    titles = re.findall(r'data-title="(.*)"', section(page, "images"))
    name = "&lt;b&gt;&amp;{{ 1 }}"
    assert titles == [f"{one}, IPC {ipc}" for ipc in (1, 2) for one in ("random", name)]


def test_pictures_are_grouped_by_title_with_their_captions(page):
    part, order = section(page, "methods"), [0, 3, 1, 2]
    files = [list(PICTURES)[i] for i in order]
    titles = re.findall(r"<h3>(.*)</h3>", part)
    assert titles == [f"{PICTURES[name][0]}: {html.escape(SHARED)}" for name in files]
    captions = [" ".join(text.split()) for text in re.findall(r"<figcaption>(.*)</f", part)]
    for name, caption in zip(files, captions, strict=True):
        text = (fakes.REPORT / f"{PICTURES[name][1]}.rst").read_text()
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
    document.page(inputs, {**page.params, "pictures": []}, {"html": tmp_path / "x.html"})
    text = (tmp_path / "x.html").read_text()
    assert 'href="#methods"' not in text and '<section id="methods">' not in text


def test_every_accuracy_has_its_lineage(page):
    lineages = re.findall(
        r"<summary>(?:<span.*?</span>)(.*?)</summary>\s*<div class=\"lineage\">(.*?)</div>",
        page.text,
        re.S,
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
    document.page(page.inputs, page.params, {"html": tmp_path / "again.html"})
    assert (tmp_path / "again.html").read_text() == page.text
