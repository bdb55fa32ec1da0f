"""The papers' numbers: complete, in range, each once and with its source."""

import csv
from pathlib import Path

import pytest

PUBLISHED = Path(__file__).parents[1] / "workflow/published"
COLUMNS = ["dataset", "method", "ipc", "student", "labels", "accuracy", "std", "source"]
KEY = COLUMNS[:5]
FILES = sorted(PUBLISHED.glob("*.csv"))
# Datasets of the field and their classes, to tell an accuracy from chance.
CLASSES = {
    "cifar10": 10,
    "cifar100": 100,
    "imagenet-10": 10,
    "imagenet-100": 100,
    "imagenet-1k": 1000,
    "imagenette": 10,
    "imagewoof": 10,
    "tiny-imagenet": 200,
}


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def path(request):
    return request.param


def test_there_are_numbers():
    assert all(rows_of(path) for path in FILES)


def test_columns(path):
    with open(path, newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == COLUMNS
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert all(cell == cell.strip() for row in rows for cell in row)


def test_numbers_are_in_range(path):
    for row in rows_of(path):
        assert 1 <= int(row["ipc"]) <= 1000, row
        assert 100 / CLASSES[row["dataset"]] < float(row["accuracy"]) < 100, row
        assert not row["std"] or 0 <= float(row["std"]) <= 5, row


def test_words_are_known(path):
    for row in rows_of(path):
        assert row["labels"] in ("soft", "hard"), row
        assert all(row[name] for name in (*KEY, "source")), row


def test_no_cell_is_there_twice():
    keys = [tuple(row[k] for k in KEY) for path in FILES for row in rows_of(path)]
    assert len(keys) == len(set(keys))


def test_values_that_contradict_each_other_are_left_out():
    keys = {tuple(row[k] for k in KEY) for row in rows_of(PUBLISHED / "rded.csv")}
    # RDED's Table 6 repeats CIFAR-10's value; EDC quotes Tiny-ImageNet otherwise than others.
    assert ("cifar100", "rded", "10", "convnet3", "soft") not in keys
    assert ("tiny-imagenet", "rded", "1", "resnet18_modified", "soft") not in keys
    assert ("cifar10", "rded", "10", "convnet3", "soft") in keys
