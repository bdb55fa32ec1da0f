"""Sets that were made elsewhere, from their files to a table beside those of the workflow."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

pytestmark = pytest.mark.workflow

MEAN = torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]
STD = torch.tensor([0.2023, 0.1994, 0.2010])[:, None, None]


def images_of(label, first):
    """Return two images of a digit, (2, 8, 8) uint8."""
    digits = load_digits()
    return (digits.images[digits.target == label][first : first + 2] * 255 / 16).astype(np.uint8)


def write_folders(root):
    """Write images as RDED's code does: a folder per position, JPEG, two per class."""
    for label in range(3):
        folder = root / f"{label:05d}"
        folder.mkdir(parents=True)
        for i, image in enumerate(images_of(label, 0)):
            Image.fromarray(image).convert("RGB").save(folder / f"class{label:05d}_id{i:05d}.jpg")


def write_tensors(root):
    """Write images as MTT's code does: normalised tensors with hard labels, two per class."""
    root.mkdir()
    images = torch.from_numpy(np.concatenate([images_of(label, 2) for label in range(3)]))
    images = images[:, None].repeat(1, 3, 1, 1) / 255
    torch.save((images - MEAN) / STD, root / "images_best.pt")
    torch.save(torch.arange(3).repeat_interleave(2), root / "labels_best.pt")


def test_sets_made_elsewhere_stand_beside_random_images_in_a_table(folder, config):
    write_folders(folder / "rded")
    write_tensors(folder / "mtt")
    config["datasets"]["few"]["normalisation"] = "cifar"
    config["methods"] = {
        "random": {"kind": "random"},
        "theirs": {"kind": "given", "folder": "rded"},
        "others": {"kind": "given", "folder": "mtt"},
    }
    config["protocols"] = {"hard": config["protocols"]["hard"]}
    config["experiments"]["tiny"] |= {
        **{"methods": ["random", "theirs", "others"], "ipc": [2], "seeds": [0]},
        "protocols": ["hard"],
    }
    folder.configure(config)
    folder.make()
    rows = {row["method"]: row for row in folder.rows()}
    assert len(rows) == 3 and all(float(row["accuracy"]) > 0 for row in rows.values())
    assert rows["theirs"]["seconds_distill"] == rows["others"]["seconds_distill"] == ""
    files = [path.stat().st_size for path in (folder / "rded").rglob("*.jpg")]
    assert float(rows["theirs"]["image_bytes"]) == sum(files)
    page = (folder / "results/report/tiny.html").read_text()
    assert "theirs" in page and "others" in page
    assert "Sets that were made elsewhere have no seconds of distillation." in page

    shutil.move(folder / "rded", folder / "elsewhere")
    config["methods"]["theirs"]["folder"] = "elsewhere"
    folder.configure(config)
    assert folder.jobs() == {}


def test_a_set_of_another_ipc_stops_the_run_with_its_counts(folder, config):
    write_folders(folder / "rded")
    config["methods"]["theirs"] = {"kind": "given", "folder": "rded"}
    config["protocols"] = {"hard": config["protocols"]["hard"]}
    config["experiments"]["tiny"] |= {"methods": ["theirs"], "protocols": ["hard"]}
    folder.configure(config)
    output, errors = folder.fail("results/tables/tiny.csv")
    assert "rded: 2 images per class, but the IPC is 1; set the experiment's ipc to [2]" in output
    assert len(errors) == 1
