import pytest
from stillhouse.data.sources import catalogue

CLASSES = ["cat", "dog", "hen"]


def settings(**changes):
    return {
        "kind": "parquet",
        "name": "pets",
        "classes": CLASSES,
        "image_column": "image",
        "label_column": "label",
        "revision": 1,
        "holdout": 0.0,
        "on_bad_image": "error",
        **changes,
    }


@pytest.mark.parametrize(("holdout", "left"), [(0.0, 116), (0.25, 87), (0.5, 58), (0.99, 1)])
def test_a_holdout_makes_the_smallest_class_smaller(holdout, left):
    assert catalogue.smallest_class({"kind": "digits", "holdout": holdout}) == left


def test_the_smallest_class_of_the_config_overrides_the_published_one():
    cifar = {"kind": "torchvision", "set": "CIFAR10", "holdout": 0.0}
    assert catalogue.smallest_class(cifar) == 5000
    assert catalogue.smallest_class({**cifar, "smallest_class": 40, "holdout": 0.25}) == 30
    assert catalogue.classes(cifar)[:2] == ("airplane", "automobile")


def test_location_and_download_of_files_are_in_no_address():
    plain = {"kind": "torchvision", "set": "MNIST", "revision": 1, "holdout": 0.0}
    source = {**plain, "root": "a", "download": True, "smallest_class": 3, "classes_per_block": 2}
    assert catalogue.shaping("digits", source) == {"name": "digits", **plain}


@pytest.mark.parametrize("treatment", ["error", "skip"])
def test_the_treatment_of_bad_images_is_in_the_address(treatment):
    source = settings(on_bad_image=treatment)
    assert catalogue.shaping("pets", source)["on_bad_image"] == treatment


def test_the_folders_of_the_splits_are_in_the_address_of_an_image_folder():
    source = {**settings(kind="image_folder"), "train": "a", "test": "b", "root": "c"}
    shaping = catalogue.shaping("pets", source)
    assert (shaping["train"], shaping["test"]) == ("a", "b")
    assert "root" not in shaping


def test_the_location_of_a_source_is_not_in_its_address():
    source = settings(train=["a"], test=["b"], classes_per_block=3)
    shaping = catalogue.shaping("pets", source)
    assert {"train", "test", "classes_per_block"}.isdisjoint(shaping)
    assert shaping["name"] == "pets"
    assert shaping["classes"] == CLASSES
    assert {"revision", "holdout", "image_column", "label_column"} <= shaping.keys()
