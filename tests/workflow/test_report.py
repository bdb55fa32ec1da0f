"""``snakemake --report`` after a finished run: its files and categories, and the page inside it."""

import base64
import json
import re
import shutil

import pytest
from snakemake_runs import Folder

pytestmark = pytest.mark.workflow

# Figures of the synthesis: snapshots and loss terms.
CATEGORIES = {"Charts": 4, "Images": 4, "Methods": 2, "Page": 1, "Tables": 3}


@pytest.fixture(scope="module")
def reported(cold, tmp_path_factory):
    """Return a copy of the finished run with its report, ``report.html``."""
    path = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(cold.path, path)
    folder = Folder(path)
    folder.make("--report", path / "report.html")
    return folder


def value(folder, name):
    """Return the value of a variable in the report's script."""
    text = (folder / "report.html").read_text()
    begin = re.search(rf'<script id="{name}">\s*var {name} = ', text).end()
    return json.JSONDecoder().raw_decode(text, begin)[0]


def test_the_report_has_all_tables_charts_images_and_pages_in_their_categories(reported):
    results = value(reported, "results")
    contents = {
        path: base64.b64decode(entry["data_uri"].rpartition("base64,")[2])
        for path, entry in results.items()
    }
    shown = [*reported.paths("report/tiny.html"), *reported.paths("tables/*")]
    shown += [path for path in reported.paths("figures/**/*") if path.suffix in (".png", ".svg")]
    assert set(contents) == {f"results/{path}" for path in shown}
    assert all(data == (reported / path).read_bytes() for path, data in contents.items())
    for path, entry in results.items():
        assert entry["labels"], path
        assert len(entry["caption"]) > 40, path
        assert "{{" not in entry["caption"]
    categories = value(reported, "categories")
    counts = {
        name: sum(len(paths) for paths in parts.values()) for name, parts in categories.items()
    }
    assert counts == CATEGORIES


def test_a_report_leaves_nothing_to_do(reported):
    assert reported.jobs() == {}


def test_methods_share_figures_of_shared_artifacts(folder, config):
    del config["sources"]["digits"]["holdout"]
    diffusion = {
        "d3hr": {"kind": "d3hr"},
        "one-group": {"kind": "d3hr", "candidates": 1},
        "ddps": {"kind": "ddps", "layer": 0},
        "single": {"kind": "ddps", "layer": 0, "variant": "single"},
        "unclustered": {"kind": "ddps", "ranking": "score", "draws": 3},
    }
    config["methods"] |= {name: {**one, "denoiser": "small"} for name, one in diffusion.items()}
    config["experiments"]["tiny"] |= {"distill_seeds": [0, 5], "methods": list(diffusion)}
    folder.configure(config)
    planned = folder.plan()
    (page,) = [job for job in planned if job.rule == "page"]
    names = [
        *(f"{name}-seed{{}}.png" for name in ("clusters-ddps", "heat_maps-ddps")),
        "heat_maps-unclustered-seed{}.png",
        *(f"latents-{m}-seed{{}}.{kind}" for m in ("d3hr", "one-group") for kind in ("csv", "svg")),
    ]
    drawn = {f"results/figures/tiny/{name.format(seed)}" for name in names for seed in (0, 5)}
    assert {path for path in page.inputs if "/tiny/" in path and "-seed" in path} == drawn
    outputs = {path for job in planned for path in job.outputs if "/figures/tiny/" in path}
    assert {path for path in outputs if "-seed" in path} == drawn
