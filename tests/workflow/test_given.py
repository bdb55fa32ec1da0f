"""A set that was made elsewhere, from its files to the set of the workflow."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = pytest.mark.workflow


def images_of(label):
    """Return two images of a digit, (2, 8, 8) uint8."""
    digits = load_digits()
    return (digits.images[digits.target == label][:2] * 255 / 16).astype(np.uint8)


def write_folders(root):
    """Write images as RDED's code does: a folder per position, JPEG, two per class."""
    for label in range(3):
        folder = root / f"{label:05d}"
        folder.mkdir(parents=True)
        for i, image in enumerate(images_of(label)):
            Image.fromarray(image).convert("RGB").save(folder / f"class{label:05d}_id{i:05d}.jpg")


def test_a_set_made_elsewhere_is_stored_from_its_files_which_can_be_moved(folder, config):
    write_folders(folder / "rded")
    config["methods"] = {"theirs": {"kind": "given", "folder": "rded"}}
    config["protocols"] = {"hard": config["protocols"]["hard"]}
    config["experiments"]["tiny"] |= {"methods": ["theirs"], "ipc": [2], "protocols": ["hard"]}
    folder.configure(config)
    (job,) = [job for job in folder.plan() if job.rule == "distilled"]
    assert "rded" in job.inputs, job
    (target,) = job.outputs
    folder.make(target)
    images = pq.read_table(folder / target, columns=["image"])["image"].to_pylist()
    files = sorted((folder / "rded").rglob("*.jpg"))
    assert [image["bytes"] for image in images] == [path.read_bytes() for path in files]

    shutil.move(folder / "rded", folder / "elsewhere")
    config["methods"]["theirs"]["folder"] = "elsewhere"
    folder.configure(config)
    assert folder.jobs(target) == {}
