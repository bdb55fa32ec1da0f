"""The papers' numbers and class lists: complete, in range, each once and with its source."""

import csv
import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from stillhouse import architectures, plan, published, schema, sources
from stillhouse.config import complete

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
        # Words of a config, else no cell of ours finds its number.
        assert row["method"] in schema.definition("method")["properties"]["kind"]["enum"], row
        assert re.match(
            schema.definition("network")["properties"]["arch"]["pattern"], row["student"]
        )
        architectures.check_name("student", row["student"])


def test_no_cell_is_there_twice():
    keys = [tuple(row[k] for k in KEY) for path in FILES for row in rows_of(path)]
    assert len(keys) == len(set(keys))


def test_values_that_contradict_each_other_are_left_out():
    keys = {tuple(row[k] for k in KEY) for row in rows_of(PUBLISHED / "rded.csv")}
    # RDED's Table 6 repeats CIFAR-10's value; EDC quotes Tiny-ImageNet otherwise than others.
    assert ("cifar100", "rded", "10", "convnet3", "soft") not in keys
    assert ("tiny-imagenet", "rded", "1", "resnet18_modified", "soft") not in keys
    assert ("cifar10", "rded", "10", "convnet3", "soft") in keys


PRESETS = PUBLISHED.parent / "presets"
NUMBERS = published.read(FILES)


def told(preset, change=lambda config: None):
    """Return {(method, IPC, labels): published accuracy} of a preset's plan."""
    config = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    change(config)
    found = {}
    for cells in plan.build(complete(config, "x.yaml")).experiments.values():
        for cell in cells:
            number, _ = published.beside(NUMBERS, cell, cell["artifact"].spec())
            found[cell["method"], cell["ipc"], cell["labels"]] = number
    return found


def test_a_papers_number_stands_beside_what_it_describes():
    found = told("rded-cifar10-convnet3")
    numbers = {key[1]: number for key, number in found.items() if number is not None}
    assert numbers == {1: 23.5, 10: 50.2, 50: 68.4}
    assert {key[0] for key, number in found.items() if number is not None} == {"rded"}


def set_student(**settings):
    return lambda config: config["students"]["convnet3"].update(settings)


def set_rded(**settings):
    return lambda config: config["methods"]["rded"].update(settings)


@pytest.mark.parametrize(
    "change",
    [
        set_student(width=64),
        set_student(norm="instance"),
        set_rded(selection="herding"),
        set_rded(crops_per_image=1),
        set_rded(images_per_class=200),
        set_rded(crop=[0.5, 1.0]),
        set_rded(patches_per_side=2),
        set_rded(patches_per_image=2),
        lambda config: config["sources"]["cifar10"].update(holdout=0.1),
    ],
)
def test_no_number_stands_beside_something_else(change):
    def changed(config):
        change(config)
        for labels in config["labels"].values():
            labels["views"] = {"crop": [1.0, 1.0], "shuffle_patches": False}

    assert set(told("rded-cifar10-convnet3", changed).values()) == {None}


def test_numbers_of_imagenet_find_their_students():
    def imagenet(config):
        config["sources"] = {
            "imagenet": {"kind": "torchvision", "set": "ImageNet", "root": "imagenet"}
        }
        config["datasets"] = {
            "imagenette": {"source": "imagenet", "classes": "imagenette", "resolution": 224}
        }
        config["methods"] = {"rded": {**config["methods"]["rded"], "patches_per_side": 2}}
        for labels in config["labels"].values():
            labels["views"] = {"patches_per_side": 2}
        config["students"] = {"resnet18": {"arch": "torchvision/resnet18"}}
        config["teachers"]["convnet3"] = {"arch": "torchvision/resnet18"}
        for experiment in config["experiments"].values():
            experiment |= {"dataset": "imagenette", "methods": ["rded"], "students": ["resnet18"]}

    assert told("rded-cifar10-convnet3", imagenet)["rded", 10, "soft"] == 61.4


LISTS = sorted((PUBLISHED / "classes").iterdir())
# Class indices as the repositories give them; the files hold WordNet ids.
INDICES = {
    "imagenette": [0, 217, 482, 491, 497, 566, 569, 571, 574, 701],
    "imagewoof": [193, 182, 258, 162, 155, 167, 159, 273, 207, 229],
    "imagemeow": [281, 282, 283, 284, 285, 291, 292, 290, 289, 287],
    "imagesquawk": [84, 130, 88, 144, 145, 22, 96, 9, 100, 89],
    "imagefruit": [953, 954, 949, 950, 951, 957, 952, 945, 943, 948],
    "imageyellow": [309, 986, 954, 951, 987, 779, 599, 291, 72, 11],
}
SIZES = {"imagenet1k": 1000, "imagenet100": 100}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_a_list_of_classes_says_where_it_is_from(path):
    assert path.suffix == ".txt"
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Origin: ") for line in comments)


@pytest.mark.parametrize("name", [path.stem for path in LISTS])
def test_a_list_has_classes_of_imagenet_each_once(name):
    found = sources.published_classes(name)
    whole = sources.published_classes("imagenet1k")
    assert len(found) == len(set(found)) == SIZES.get(name, 10)
    assert set(found) <= set(whole)
    assert list(whole) == sorted(whole)


@pytest.mark.parametrize(("name", "indices"), INDICES.items(), ids=INDICES)
def test_a_list_is_that_of_the_indices(name, indices):
    whole = sources.published_classes("imagenet1k")
    assert list(sources.published_classes(name)) == [whole[i] for i in indices]


def test_imagenet10_begins_imagenet100():
    ten, hundred = (sources.published_classes(f"imagenet{n}") for n in (10, 100))
    assert hundred[:10] == ten


def test_imagenets_classes_are_those_of_timm():
    place = importlib.util.find_spec("timm").submodule_search_locations[0]
    found = (Path(place) / "data/_info/imagenet_synsets.txt").read_text().split()
    assert list(sources.published_classes("imagenet1k")) == found


def test_the_first_and_last_classes_of_imagenet():
    whole = sources.published_classes("imagenet1k")
    assert (whole[0], whole[217], whole[999]) == ("n01440764", "n02102040", "n15075141")
