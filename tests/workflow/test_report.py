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


def test_pictures_of_diffusion_methods_are_drawn_and_what_methods_share_once(folder, config):
    config["denoisers"] = {"dit": {"kind": "dit", "resolution": 8, "train": {}}}
    diffusion = {
        "d3hr": {"kind": "d3hr"},
        "one-group": {"kind": "d3hr", "candidates": 1},
        "ddps": {"kind": "ddps"},
        "single": {"kind": "ddps", "variant": "single"},
        "unclustered": {"kind": "ddps", "ranking": "score", "draws": 3},
        "d4m": {"kind": "d4m"},
    }
    config["methods"] |= {name: {**one, "denoiser": "dit"} for name, one in diffusion.items()}
    config["experiments"]["tiny"]["distill_seeds"] = [0, 5]
    config["experiments"]["tiny"]["methods"] += diffusion
    folder.configure(config)
    text = folder.make("--dry-run").stdout
    blocks = [block for block in text.split("\n[") if "\nrule page:" in block]
    inputs = re.search(r"^    input: (.*)$", blocks[0], re.M)[1].split(", ")
    drawn = [
        *(
            "clusters-ddps-seed{}.png",
            "heat_maps-ddps-seed{}.png",
            "heat_maps-unclustered-seed{}.png",
        ),
        *(f"latents-{m}-seed{{}}.{kind}" for m in ("d3hr", "one-group") for kind in ("csv", "svg")),
    ]
    wanted = {f"results/figures/tiny/{name.format(seed)}" for name in drawn for seed in (0, 5)}
    assert {path for path in inputs if "-seed" in path and "/tiny/" in path} == wanted
    made = re.findall(r"^    output: (results/figures/tiny/.*-seed.*)$", text, re.M)
    assert {path for line in made for path in line.split(", ")} == wanted
