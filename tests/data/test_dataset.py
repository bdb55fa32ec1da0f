import json
from pathlib import Path

import pytest
from stillhouse.artifacts import jobs, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.stages import DATASET
from stillhouse.reporting import notes

from tests.data.test_class_images import Pets

CLASSES = ["hen", "cat"]


@pytest.fixture
def make_dataset(empty):
    """Return a function that computes a dataset of two of the three classes of a source."""

    def make_dataset(train=(), test=(), **settings):
        pets = Pets(empty, **settings)
        if train:
            pets.write("train", train)
            pets.write("test", test)
        pets.make_index()
        paths = dict(zip(CLASSES, pets.make_images(*CLASSES), strict=True))
        upstream = {"index": pets.index, "images": pets.images}
        artifact = Artifact(DATASET, "pets", {"classes": CLASSES}, upstream)
        inputs = {"index": Path(pets.index.file), "images": paths}
        jobs.produce(DATASET, inputs, artifact.spec(), (), {})
        return store.read_json(artifact.file), paths

    return make_dataset


def test_images_are_counted_per_class_and_split(make_dataset):
    train = [(1, 0), (2, 0), (3, 1), (4, 2), (5, 0), (6, 2)]
    dataset, _ = make_dataset(train, [(11, 0), (12, 1), (13, 2), (14, 2)])
    assert dataset["classes"] == [
        {"class_id": "hen", "train": 2, "test": 2},
        {"class_id": "cat", "train": 3, "test": 1},
    ]
    assert dataset["in_both_splits"] == 0
    assert notes.leak_notes(list(Path("results/dataset").rglob("dataset.json"))) == []


def test_unused_images_are_not_counted(make_dataset):
    dataset, _ = make_dataset(holdout=0.3)
    assert dataset["classes"] == [
        {"class_id": "hen", "train": 7, "test": 3},
        {"class_id": "cat", "train": 7, "test": 3},
    ]


def test_images_with_equal_bytes_in_both_splits_are_counted(make_dataset, capsys):
    # 2 of cat and 4 of hen equal test images, of any class; 3 of dog is not in the dataset.
    train = [(1, 0), (2, 0), (3, 1), (4, 2), (5, 2)]
    dataset, _ = make_dataset(train, [(4, 0), (2, 0), (3, 1), (13, 2)])
    assert dataset["in_both_splits"] == 2
    (path,) = Path("results/dataset").rglob("dataset.json")
    (note,) = notes.leak_notes([path])
    assert note.startswith(
        f"Training images of dataset {path.parent.name} that equal test images: 2."
    )
    assert "2 training images equal test images" in capsys.readouterr().out


def test_the_same_training_image_twice_counts_twice(make_dataset):
    train = [(2, 0), (2, 0), (3, 1), (4, 2)]
    dataset, _ = make_dataset(train, [(2, 0), (12, 1), (13, 2)])
    assert dataset["in_both_splits"] == 2


def test_the_files_of_each_class_are_listed_with_their_checksums(make_dataset):
    dataset, paths = make_dataset()
    assert dataset["members"].keys() == {str(paths[class_id].parent) for class_id in CLASSES}
    for path in paths.values():
        listed = json.loads(path.with_name("spec.json").read_text())["files"]
        assert dataset["members"][str(path.parent)] == listed
