"""A folder of image files as a source: kept by reference, checked when read, moved at will."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = pytest.mark.workflow

CLASSES = ["red", "green"]


def write_images(root):
    """Write a few pictures of each colour, of two sizes, as PNG files."""
    for split, count in (("train", 6), ("val", 3)):
        for channel, class_id in enumerate(CLASSES):
            folder = root / split / class_id
            folder.mkdir(parents=True)
            for i in range(count):
                rng = np.random.default_rng([len(split), channel, i])
                pixels = rng.integers(0, 90, (8 + i % 2, 10, 3), np.uint8)
                pixels[:, :, channel] += 120
                Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.fixture
def colours(folder, config):
    """Return a folder with a source of image files, and its config."""
    write_images(folder / "colours")
    config["sources"] = {
        "colours": {
            "kind": "image_folder",
            "root": "colours",
            "classes": CLASSES,
            "smallest_class": 6,
            "classes_per_block": 1,
        }
    }
    config["datasets"] = {"few": {"source": "colours", "resolution": 8}}
    config["teachers"]["small"].pop("dataset")
    config["teachers"]["small"]["epochs"] = 2
    config["methods"]["near"] = {"kind": "herding", "features": "pixels"}
    config["methods"]["far"] = {"kind": "kmeans", "features": "small"}
    methods = ["random", "rded", "near", "far"]
    config["experiments"]["tiny"] |= {"methods": methods, "protocols": ["hard"], "seeds": [0]}
    folder.configure(config)
    return folder, config


def test_folders_are_read_where_they_are(colours):
    folder, config = colours
    before = sorted((folder / "colours").rglob("*"))
    folder.make()
    assert folder.jobs() == {}
    assert [row["method"] for row in folder.rows()] == ["random", "rded", "near", "far"]
    kept = pq.read_table(folder.one("images/*/red/images.parquet")).to_pylist()
    assert [row["image"] for row in kept[:1]] == [{"bytes": None, "path": "train/red/0.png"}]
    assert sorted((folder / "colours").rglob("*")) == before

    # Time of change of the folders, and the root: nothing that shapes anything.
    os.utime(folder / "colours/train/red")
    os.utime(folder / "colours")
    assert folder.jobs() == {}
    moved = folder / "mo ved' {x}"
    (folder / "colours").rename(moved)
    assert folder.jobs() == {}
    config["sources"]["colours"]["root"] = str(moved)
    folder.configure(config)
    assert folder.jobs() == {}

    # Who reads on finds the images at the new root, and what has changed there.
    config["experiments"]["tiny"]["ipc"] = [1, 2]
    folder.configure(config)
    folder.make()
    Image.new("RGB", (8, 8)).save(moved / "val/green/1.png")
    config["experiments"]["tiny"]["seeds"] = [1]
    folder.configure(config)
    done = folder.snakemake()
    assert done.returncode != 0
    lines = [ln for ln in done.stderr.splitlines() if ln.lstrip().startswith("error: ")]
    assert lines
    assert "image 'val/green/1.png' of class 'green' has changed" in lines[0]
    assert lines[0].endswith("raise sources.colours.revision above 1")


def test_a_missing_root_ends_before_any_job_and_is_named(colours):
    folder, _ = colours
    (folder / "colours").rename(folder / "moved")
    done = folder.snakemake()
    assert done.returncode != 0
    (line,) = [ln for ln in (done.stdout + done.stderr).splitlines() if "is not there" in ln]
    assert line.endswith("colours: is not there; it is named under sources.colours.root")
    assert not (folder / "results").exists()


def test_an_image_that_is_none_is_named_or_left_out(colours):
    folder, config = colours
    (folder / "colours/train/red/zz.png").write_bytes(b"no image")
    (index,) = [path for job in folder.plan() if job.stage == "index" for path in job.outputs]
    done = folder.snakemake(index)
    (line,) = [ln for ln in done.stderr.splitlines() if ln.lstrip().startswith("error: ")]
    assert "colours/train/red/zz.png: is not a readable image" in line

    config["sources"]["colours"]["on_bad_image"] = "skip"
    folder.configure(config)
    folder.make(*[path for job in folder.plan() if job.stage == "images" for path in job.outputs])
    table = pq.read_table(folder.one("images/*/red/images.parquet"))
    assert table.num_rows == 9
    index = pq.read_schema(folder.one("index/*/index.parquet"))
    assert b"train/red/zz.png" in index.metadata[b"skipped"]

    config["experiments"]["tiny"] |= {"methods": ["near"], "ipc": [1]}
    folder.configure(config)
    folder.make()
    note = "Unreadable images of source colours that were left out: 1."
    assert f"- {note}" in folder.one("tables/tiny.md").read_text().splitlines()
    assert note in folder.one("report/tiny.html").read_text()
