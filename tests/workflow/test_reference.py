"""A folder of image files as a source: stored by reference, checked when read, movable."""

import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = pytest.mark.workflow

CLASSES = ["red", "green"]
TABLE = "results/tables/tiny.csv"


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
            "on_bad_image": "skip",
        }
    }
    config["datasets"] = {"few": {"source": "colours", "resolution": 8}}
    config["teachers"], config["labels"] = {}, {}
    config["methods"] = {"near": {"kind": "herding", "feature_space": "pixels"}}
    config["protocols"] = {"hard": {"labels": "hard", "epochs": 2}}
    config["experiments"]["tiny"] |= {"methods": ["near"], "protocols": ["hard"], "seeds": [0]}
    folder.configure(config)
    return folder, config


def test_folders_are_read_in_place_and_can_be_moved(colours):
    folder, config = colours
    (folder / "colours/train/red/zz.png").write_bytes(b"no image")
    before = sorted((folder / "colours").rglob("*"))
    folder.make(TABLE)
    assert folder.jobs(TABLE) == {}
    rows = pq.read_table(folder.one("images/*/red/images.parquet")).to_pylist()
    assert len(rows) == 9
    assert rows[0]["image"] == {"bytes": None, "path": "train/red/0.png"}
    assert sorted((folder / "colours").rglob("*")) == before
    # The unreadable image is skipped and counted.
    index = pq.read_schema(folder.one("index/*/index.parquet"))
    assert b"train/red/zz.png" in index.metadata[b"skipped"]
    assert "Unreadable images of source colours" in folder.one("tables/tiny.md").read_text()

    # Neither the folders' time of change nor the root affects any artifact.
    os.utime(folder / "colours/train/red")
    moved = folder / "mo ved' {x}"
    (folder / "colours").rename(moved)
    assert folder.jobs(TABLE) == {}
    config["sources"]["colours"]["root"] = str(moved)
    folder.configure(config)
    assert folder.jobs(TABLE) == {}

    # Images are read, and compared with the index, at the new root.
    config["experiments"]["tiny"]["ipc"] = [2]
    folder.configure(config)
    Image.new("RGB", (8, 8)).save(moved / "val/green/1.png")
    _, errors = folder.fail(TABLE)
    assert len(folder.paths("distilled/few/*/ipc2-seed0/images.parquet")) == 1
    assert "image 'val/green/1.png' of class 'green' was changed" in errors[0]
    assert "raise sources.colours.revision above 1" in errors[0]


def test_a_missing_root_ends_before_any_job_and_is_named(colours):
    folder, _ = colours
    (folder / "colours").rename(folder / "moved")
    output, _ = folder.fail()
    (line,) = [line for line in output.splitlines() if "folder not found" in line]
    assert line.endswith("sources.colours.root: folder not found: colours; correct the path")
    assert not (folder / "results").exists()


def test_an_unreadable_image_is_named(colours):
    folder, config = colours
    (folder / "colours/train/red/zz.png").write_bytes(b"no image")
    config["sources"]["colours"]["on_bad_image"] = "error"
    folder.configure(config)
    _, errors = folder.fail(*folder.outputs("index"))
    assert "colours/train/red/zz.png" in errors[0]
