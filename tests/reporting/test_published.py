"""The papers' numbers and class lists: complete, in range, each once and with its source."""

import copy
import csv
import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from stillhouse.config import schema
from stillhouse.config.load import complete
from stillhouse.data.sources import catalogue
from stillhouse.networks import architectures
from stillhouse.planning import plan
from stillhouse.reporting import published

PUBLISHED = Path(__file__).parents[2] / "workflow/published"
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


def set_judges(*names):
    def change(config):
        config["teachers"]["other"] = {"arch": "resnet18_modified"}
        config["labels"]["soft"]["teachers"] = list(names)

    return change


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
        lambda config: config["protocols"]["soft"].update(loss="mse_ce", ce_weight=0.025),
        set_judges("convnet3", "other"),
        set_judges("other"),
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


def test_values_of_other_protocols_and_variants_are_left_out():
    keys = {tuple(row[k] for k in KEY) for path in FILES for row in rows_of(path)}
    # D3HR's Table A6 trains for 1000 epochs; its CIFAR-10 cells are those of Table 1.
    assert NUMBERS["cifar10", "d3hr", "10", "resnet18_modified", "soft"] == (41.3, 0.1)
    assert not {key for key in keys if key[:2] == ("cifar10", "d3hr") and "convnet" in key[3]}
    # DDPS has four patches an image up to IPC 10, one from there on.
    cell = ("imagewoof", "ddps", "{}", "torchvision/resnet18", "soft")
    found = [NUMBERS[tuple(part.format(ipc) for part in cell)][0] for ipc in (10, 50, 100)]
    assert found == [44.3, 73.5, 80.2]
    # D4M on ImageNet-1K: its own value, not that of DDPS (41.9).
    assert NUMBERS["imagenet-1k", "d4m", "10", "torchvision/resnet18", "soft"] == (27.9, None)
    # SRe2L: three papers have three values for CIFAR-100, two for ResNet-101 on ImageNet-1K; where
    # two of three agree on CIFAR-10, theirs.
    assert ("cifar100", "sre2l", "50", "resnet18_modified", "soft") not in keys
    assert ("imagenet-1k", "sre2l", "100", "torchvision/resnet101", "soft") not in keys
    assert NUMBERS["cifar10", "sre2l", "10", "resnet18_modified", "soft"] == (29.3, 0.5)
    # EDC's table 13 has a value of MobileNet-V2 under ResNet-101.
    found = [
        NUMBERS["imagenet-1k", "edc", "1", f"torchvision/{arch}", "soft"]
        for arch in ("resnet101", "mobilenet_v2")
    ]
    assert found == [(12.2, 0.2), (8.4, 0.3)]


def part(stage, settings, upstream=None, **keys):
    return {"stage": stage, "settings": settings, "upstream": upstream or {}, "keys": keys}


def denoiser(kind, resolution):
    return part("denoiser", {"kind": kind, "resolution": resolution, "weights": {"sha256": "0"}})


def images():
    return part("images", {}, {"index": part("index", {"holdout": 0.0})})


def inverted(model):
    """Return D3HR's decoded images, as a plan has them."""
    latents = part("latents", {}, {"images": images(), "denoiser": model})
    common = {"steps": 50, "guidance": 4.0, "precision": "float16"}
    settings = {**common, "snapshots": [31], "latents": "sample", "process": "inversion"}
    inversion = part("inversion", settings, {"latents": latents, "denoiser": model})
    settings = {
        "snapshot": 31,
        "variance": 1.0,
        "sampler": "search",
        "candidates": 100000,
        "weights": {"mean": 1, "std": 1, "skewness": 0.5},
    }
    samples = part("samples", settings, {"inversion": inversion})
    settings = {**common, "inversion_steps": 31, "start": "next"}
    return part("decode", settings, {"start": samples, "denoiser": model})


def scored(model):
    """Return DDPS's clusters, as a plan has them."""
    latents = part("latents", {}, {"images": images(), "denoiser": model})
    settings = {"draws": 100, "timesteps": [0.1, 0.7], "images_per_class": 300, "patch": 224}
    upstream = {"images": images(), "latents": latents, "denoiser": model}
    scores = part("class_scores", settings, upstream)
    settings = {"features": "dift", "timestep": 161, "layer": 1, "ensemble": 8}
    features = part("features", settings, {**upstream, "scores": scores})
    return part("clusters", {"clusters": 32}, {"features": features, "scores": scores})


def cell_of(kind, ipc=10):
    """Return (identity, spec) of a cell whose number is published: ImageNet-1K, ResNet-18."""
    settings, upstream = {"kind": kind, "resolution": 224}, {}
    if kind == "d3hr":
        upstream["decoded"] = inverted(denoiser("dit", 256))
    elif kind == "ddps":
        settings |= {"variant": "auto", "clusters_used": 10, "ranking": "clusters"}
        upstream = {"images": images(), "clusters": scored(denoiser("stable_diffusion", 256))}
    else:
        model = denoiser("stable_diffusion", 512)
        latents = part("latents", {}, {"images": images(), "denoiser": model})
        start = part("prototypes", {}, {"latents": latents})
        decoded = {"steps": 50, "strength": 0.7, "guidance": 8.0}
        upstream["decoded"] = part("decode", decoded, {"start": start, "denoiser": model})
    teacher = part("teacher", {"arch": "torchvision/resnet18"}, {"images": images()})
    made = part("distilled", settings, upstream, ipc=ipc)
    spec = part(
        "students",
        {
            "network": {"arch": "torchvision/resnet18"},
            "labels": {"kind": "online"},
            "training": {"loss": "kl"},
        },
        {"distilled": made, "teacher0": teacher},
    )
    identity = {"dataset": "imagenet-1k", "kind": kind, "ipc": ipc, "labels": "online"}
    return {**identity, "arch": "torchvision/resnet18"}, spec


@pytest.mark.parametrize(
    ("kind", "ipc", "number"),
    [
        ("d3hr", 10, 44.3),
        ("d3hr", 50, 59.4),
        ("ddps", 10, 43.9),
        ("ddps", 50, 59.4),
        ("d4m", 100, 59.3),
    ],
)
def test_numbers_of_diffusion_stand_beside_what_their_papers_describe(kind, ipc, number):
    identity, spec = cell_of(kind, ipc)
    assert published.beside(NUMBERS, identity, spec)[0] == number
    table = part("labels", {}, {"teacher0": spec["upstream"].pop("teacher0")})
    spec["upstream"]["labels"] = table
    assert published.beside(NUMBERS, {**identity, "labels": "soft"}, spec)[0] == number


# Where a part of a cell lies below its distilled set.
PLACES = {
    "made": (),
    "decoded": ("decoded",),
    "dit": ("decoded", "denoiser"),
    "samples": ("decoded", "start"),
    "inversion": ("decoded", "start", "inversion"),
    "index": ("decoded", "start", "inversion", "latents", "images", "index"),
    "clusters": ("clusters",),
    "features": ("clusters", "features"),
    "scores": ("clusters", "scores"),
    "sd": ("clusters", "scores", "denoiser"),
}


@pytest.mark.parametrize(
    ("kind", "place", "settings"),
    [
        ("d3hr", "index", {"holdout": 0.1}),
        ("d3hr", "dit", {"kind": "stable_diffusion"}),
        ("d3hr", "dit", {"resolution": 512}),
        ("d3hr", "decoded", {"inversion_steps": 20}),
        ("d3hr", "decoded", {"steps": 25}),
        ("d3hr", "decoded", {"guidance": 1.5}),
        ("d3hr", "samples", {"snapshot": 20}),
        ("d3hr", "samples", {"sampler": "exact"}),
        ("d3hr", "samples", {"variance": 0.9}),
        ("d3hr", "samples", {"candidates": 1}),
        ("d3hr", "samples", {"weights": {"mean": 0, "std": 1, "skewness": 0.5}}),
        ("d3hr", "samples", {"weights": {"mean": 1, "std": 0, "skewness": 0.5}}),
        ("d3hr", "samples", {"weights": {"mean": 1, "std": 1, "skewness": 2}}),
        ("d3hr", "inversion", {"steps": 25}),
        ("d3hr", "inversion", {"guidance": 1.0}),
        ("d3hr", "inversion", {"latents": "mode"}),
        ("d3hr", "inversion", {"process": "diffusion"}),
        ("ddps", "made", {"variant": "single"}),
        ("ddps", "made", {"clusters_used": 32}),
        ("ddps", "made", {"ranking": "score"}),
        ("ddps", "clusters", {"clusters": 10}),
        ("ddps", "features", {"features": "clip"}),
        ("ddps", "features", {"timestep": 261}),
        ("ddps", "scores", {"timesteps": [0.1, 0.9]}),
        ("ddps", "scores", {"patch": 112}),
        ("ddps", "scores", {"patch": 0}),
        ("ddps", "scores", {"images_per_class": 100}),
        ("ddps", "sd", {"kind": "dit"}),
        ("ddps", "sd", {"resolution": 512}),
        ("d4m", "dit", {"kind": "dit"}),
        ("d4m", "dit", {"resolution": 256}),
        ("d4m", "decoded", {"strength": 0.5}),
        ("d4m", "decoded", {"guidance": 1.0}),
        ("d4m", "decoded", {"steps": 20}),
    ],
)
def test_no_number_stands_beside_another_diffusion(kind, place, settings):
    identity, spec = cell_of(kind)
    found = spec["upstream"]["distilled"]
    for name in PLACES[place]:
        found = found["upstream"][name]
    found["settings"] |= settings
    assert published.beside(NUMBERS, identity, spec) == (None, None)


@pytest.mark.parametrize("kind", ["d3hr", "ddps", "d4m"])
def test_no_number_stands_beside_a_denoiser_that_was_trained_here(kind):
    identity, spec = cell_of(kind)
    place = PLACES["sd" if kind == "ddps" else "dit"]
    found = spec["upstream"]["distilled"]
    for name in place:
        found = found["upstream"][name]
    del found["settings"]["weights"]
    found["settings"]["train"] = {}
    assert published.beside(NUMBERS, identity, spec) == (None, None)


def test_no_number_stands_beside_patches_without_clusters():
    identity, spec = cell_of("ddps")
    made = spec["upstream"]["distilled"]
    made["settings"]["ranking"] = "score"
    made["upstream"]["scores"] = made["upstream"].pop("clusters")["upstream"]["scores"]
    assert published.beside(NUMBERS, identity, spec) == (None, None)


@pytest.mark.parametrize("kind", ["d3hr", "ddps", "d4m"])
def test_no_number_stands_beside_labels_of_other_teachers(kind):
    identity, spec = cell_of(kind)
    teacher = spec["upstream"]["teacher0"]
    several = {**spec["upstream"], "teacher1": teacher}
    assert published.beside(NUMBERS, identity, {**spec, "upstream": several}) == (None, None)
    teacher["settings"]["arch"] = "torchvision/vgg11"
    assert published.beside(NUMBERS, identity, spec) == (None, None)


def small(kind, arch, judge):
    """Return (identity, spec) of a cell of CIFAR-10, IPC 10."""
    identity, spec = cell_of(kind)
    network = {"arch": arch, "width": 128, "norm": "batch"}
    spec["settings"]["network"] = network
    spec["upstream"]["teacher0"]["settings"]["arch"] = judge
    made = spec["upstream"]["distilled"]
    made["settings"]["resolution"] = 32
    return {**identity, "dataset": "cifar10", "arch": arch}, spec, made


def test_small_images_are_scored_whole():
    identity, spec, made = small("ddps", "convnet3", "convnet3")
    assert published.beside(NUMBERS, identity, spec) == (None, None)
    made["upstream"]["clusters"]["upstream"]["scores"]["settings"]["patch"] = 0
    assert published.beside(NUMBERS, identity, spec) == (48.8, 0.4)
    made["settings"]["variant"] = "concat"
    assert published.beside(NUMBERS, identity, spec) == (None, None)
    made["settings"]["variant"] = "single"
    assert published.beside(NUMBERS, identity, spec) == (48.8, 0.4)


def test_all_images_are_as_good_as_300():
    identity, spec = cell_of("ddps")
    scores = spec["upstream"]["distilled"]["upstream"]["clusters"]["upstream"]["scores"]
    scores["settings"]["images_per_class"] = "all"
    assert published.beside(NUMBERS, identity, spec) == (43.9, 0.2)


def test_a_convnets_labels_are_of_its_like():
    identity, spec, made = small("ddps", "convnet3", "resnet18_modified")
    made["upstream"]["clusters"]["upstream"]["scores"]["settings"]["patch"] = 0
    assert published.beside(NUMBERS, identity, spec) == (None, None)


def test_small_images_want_other_candidates():
    identity, spec, made = small("d3hr", "resnet18_modified", "resnet18_modified")
    samples = made["upstream"]["decoded"]["upstream"]["start"]["settings"]
    assert published.beside(NUMBERS, identity, spec) == (None, None)
    for candidates in (5_000_000, 100_000_000):
        samples["candidates"] = candidates
        assert published.beside(NUMBERS, identity, spec) == (41.3, 0.1)
    samples["candidates"] = 10_000_000
    assert published.beside(NUMBERS, identity, spec) == (None, None)


def test_hard_labels_have_no_teacher():
    identity, spec = cell_of("d3hr")
    del spec["upstream"]["teacher0"]
    spec["settings"] |= {"network": {"arch": "resnetap10", "norm": "instance"}}
    spec["settings"]["labels"] = {"kind": "hard"}
    identity |= {"dataset": "imagewoof", "arch": "resnetap10", "labels": "hard"}
    assert published.beside(NUMBERS, identity, spec) == (40.7, 1.0)


def told_of(preset):
    """Return {(method, dataset, IPC, student's architecture): accuracy} of a preset's plan."""
    config = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    found = {}
    for cells in plan.build(complete(config, f"{preset}.yaml")).experiments.values():
        for cell in cells:
            number, _ = published.beside(NUMBERS, cell, cell["artifact"].spec())
            if number is not None:
                found[tuple(cell[k] for k in ("method", "dataset", "ipc", "arch"))] = number
    return found


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (
            "d3hr-table1-cifar10",
            {
                ("d3hr", "cifar10", 10, "resnet18_modified"): 41.3,
                ("d3hr", "cifar10", 50, "resnet18_modified"): 70.8,
                ("d3hr", "cifar10", 10, "resnet101_modified"): 35.8,
                ("d3hr", "cifar10", 50, "resnet101_modified"): 63.9,
            },
        ),
        (
            "d3hr-table5",
            {
                ("d3hr", "imagewoof", 10, "resnet18_instance"): 39.6,
                ("d3hr", "imagewoof", 50, "resnet18_instance"): 57.6,
                ("d3hr", "imagewoof", 100, "resnet18_instance"): 66.8,
                ("d3hr", "imagewoof", 10, "resnetap10"): 40.7,
                ("d3hr", "imagewoof", 50, "resnetap10"): 59.3,
                ("d3hr", "imagewoof", 100, "resnetap10"): 64.7,
            },
        ),
        (
            "ddps-table2",
            {
                ("ddps", "cifar10", 10, "convnet3"): 48.8,
                ("ddps", "cifar10", 50, "convnet3"): 66.2,
                ("ddps", "cifar10", 10, "resnet18_modified"): 36.4,
                ("ddps", "cifar10", 50, "resnet18_modified"): 61.0,
                ("ddps", "cifar100", 10, "convnet3"): 47.3,
                ("ddps", "cifar100", 50, "convnet3"): 57.6,
                ("ddps", "cifar100", 10, "resnet18_modified"): 41.5,
                ("ddps", "cifar100", 50, "resnet18_modified"): 63.8,
            },
        ),
        # Of all variants the method itself: its patches, not those of other sizes or clusters.
        (
            "ddps-ablation",
            {
                ("ddps", "imagewoof", 10, "torchvision/resnet18"): 44.3,
                ("ddps", "imagewoof", 50, "torchvision/resnet18"): 73.5,
                ("ddps", "imagewoof", 100, "torchvision/resnet18"): 80.2,
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_preset_finds_its_numbers_and_no_others(preset, expected):
    assert told_of(preset) == expected


# A preset's experiment, its method, and the numbers that it finds at its IPCs.
SYNTHESISED = {
    "edc-cifar10": ("edc", [32.6, 79.1, 87.0]),
    "edc-cifar10-paper": ("edc-paper", [32.6, 79.1, 87.0]),
    "edc-cifar100": ("edc", [39.7, 63.7, 68.6]),
    "edc-cifar100-paper": ("edc-paper", [39.7, 63.7, 68.6]),
    "edc-tinyimagenet": ("edc", [51.2, 56.5]),
    "edc-tinyimagenet-ipc1": ("edc", [39.2]),
    "edc-tinyimagenet-paper": ("edc-paper", [51.2, 56.5]),
    "edc-tinyimagenet-paper-ipc1": ("edc-paper", [39.2]),
    "edc-imagenet10": ("edc", [45.2, 63.4, 82.2]),
    "edc-imagenet10-paper": ("edc-paper", [45.2, 63.4, 82.2]),
    "edc-table1-imagenet1k": ("edc", [12.8, 48.6, 58.0]),
    "edc-table1-imagenet1k-paper": ("edc-paper", [48.6]),
    "edc-table2": ("edc", [48.6, 52.0, 55.0, 56.4, 58.0]),
    "edc-ladder-a": ("a", [31.4]),
    **{f"edc-ladder-{rung}": (rung, [None]) for rung in "bcdef"},
    "edc-ladder-g": ("g", [48.6]),
    "gvbsm-cifar10": ("gvbsm", [53.5, 59.2]),
    "gvbsm-cifar10-eight": ("gvbsm-eight", [None]),
    "sre2l-cifar100": ("sre2l", [31.6, None]),
    "sre2l-imagenet1k": ("sre2l", [21.3, 46.8, 52.8]),
}
WHERE = {"edc-table": "edc-imagenet1k", "edc-ladder": "edc-ladder-imagenet1k"}
WHERE |= {f"edc-{name}": f"edc-{name}" for name in ("cifar100", "tinyimagenet", "imagenet10")}
WHERE |= {name: name for name in ("edc-cifar10", "gvbsm-cifar10", "sre2l-cifar100")}


def synthesised(experiment, change=lambda config, *parts: None):
    """Return the numbers of a preset's experiment by IPC, of its first student; None for none.

    `change` is given the config, and of it method, labels and protocol. Of a thousand classes ten
    are planned.
    """
    preset = next((WHERE[name] for name in WHERE if experiment.startswith(name)), experiment)
    config = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    method, _ = SYNTHESISED[experiment]
    given = {**config["experiments"][experiment], "methods": [method], "seeds": [0]}
    given["students"] = given["students"][:1]
    config["experiments"] = {experiment: given}
    (protocol,) = given["protocols"]
    labels = config["protocols"][protocol]["labels"]
    parts = ("methods", method), ("labels", labels), ("protocols", protocol)
    for section, name in parts:
        config[section][name] = copy.deepcopy(config[section][name])
    change(config, *(config[section][name] for section, name in parts))
    for dataset in config["datasets"].values():
        dataset["classes"] = "imagenette" if dataset["source"] == "imagenet" else "all"
    cells = plan.build(complete(config, "x.yaml")).experiments[experiment]
    return [published.beside(NUMBERS, cell, cell["artifact"].spec())[0] for cell in cells]


@pytest.mark.parametrize("experiment", SYNTHESISED)
def test_numbers_of_syntheses_stand_beside_what_their_papers_describe(experiment):
    assert synthesised(experiment) == SYNTHESISED[experiment][1]


def method(**settings):
    return lambda config, method, labels, protocol: method.update(settings)


def judges(*names):
    return lambda config, method, labels, protocol: labels.update(teachers=list(names))


def observer(**settings):
    def change(config, method, labels, protocol):
        config["teachers"]["other"] = settings
        method["observers"] = ["other"]

    return change


def protocol(*without, **settings):
    def change(config, method, labels, protocol):
        for name in without:
            del protocol[name]
        protocol.update(settings)

    return change


MULTISTEP = ("milestones", "rate_decay")
CHANGES = {
    "edc-cifar10": [
        method(initial="noise"),
        method(order="by_copy"),
        method(alpha=0.25),
        method(learning_rate=0.1),
        method(iterations=100),
        method(crop=[0.25, 1.0]),
        method(flatness={"on": "sam"}),
        method(flatness={"on": "logits", "weight": 1.0}),
        method(weights={"densification": 1.0}),
        method(weights={"convolution": 0.0}, observers=["resnet18"]),
        method(observers=["resnet18", "convnet-w128", "mobilenetv2", "wrn16-2", "shufflenetv2"]),
        judges("resnet18"),
        protocol(epochs=2000),
        protocol(batch_size=5),
        protocol(ce_weight=0.1),
        protocol(ema=0.999),
        protocol("ema"),
        protocol("ce_weight", loss="kl"),
        protocol(*MULTISTEP, schedule="half_cosine"),
    ],
    "edc-cifar100": [method(crop=[0.08, 1.0]), protocol(smoothing=3), judges("resnet18")],
    "edc-tinyimagenet": [protocol(epochs=1000), protocol(schedule="cosine")],
    "edc-tinyimagenet-ipc1": [protocol(epochs=300)],
    "edc-imagenet10": [method(initial="real"), method(initial="random")],
    "edc-ladder-g": [
        method(initial="real"),
        method(crop=[0.08, 1.0]),
        protocol("ema"),
        protocol(smoothing=1.5),
        judges("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5"),
    ],
    "edc-ladder-a": [protocol(smoothing=1.5), protocol(ema=0.99)],
    "gvbsm-cifar10": [
        method(initial="real"),
        method(order="by_copy"),
        method(alpha=0.5),
        method(iterations=2000),
        method(flatness={"on": "logits"}),
        method(weights={"densification": 0.0}),
        method(observers=["resnet18", "convnet-w128", "mobilenetv2", "wrn16-2"]),
        judges("resnet18"),
        protocol(schedule="half_cosine"),
        protocol("ce_weight", loss="kl"),
    ],
    "sre2l-cifar100": [
        method(initial="real"),
        method(order="by_class"),
        method(alpha=0.5),
        method(weights={"convolution": 0.01}),
        method(flatness={"on": "statistics"}),
        observer(arch="resnet101_modified"),
    ],
}


@pytest.mark.parametrize(
    ("experiment", "change"),
    [(name, change) for name, changes in CHANGES.items() for change in changes],
)
def test_no_number_stands_beside_another_synthesis(experiment, change):
    assert set(synthesised(experiment, change)) == {None}


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
SIZES = {"imagenet1k": 1000, "tinyimagenet": 200, "imagenet100": 100}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.name)
def test_a_list_of_classes_says_where_it_is_from(path):
    assert path.suffix == ".txt"
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Origin: ") for line in comments)


@pytest.mark.parametrize("name", [path.stem for path in LISTS])
def test_a_list_has_classes_of_imagenet_each_once(name):
    found = catalogue.published_classes(name)
    whole = catalogue.published_classes("imagenet1k")
    assert len(found) == len(set(found)) == SIZES.get(name, 10)
    assert set(found) <= set(whole)
    assert list(whole) == sorted(whole)


@pytest.mark.parametrize(("name", "indices"), INDICES.items(), ids=INDICES)
def test_a_list_is_that_of_the_indices(name, indices):
    whole = catalogue.published_classes("imagenet1k")
    assert list(catalogue.published_classes(name)) == [whole[i] for i in indices]


def test_imagenet10_begins_imagenet100():
    ten, hundred = (catalogue.published_classes(f"imagenet{n}") for n in (10, 100))
    assert hundred[:10] == ten


def test_imagenets_classes_are_those_of_timm():
    place = importlib.util.find_spec("timm").submodule_search_locations[0]
    found = (Path(place) / "data/_info/imagenet_synsets.txt").read_text().split()
    assert list(catalogue.published_classes("imagenet1k")) == found


def test_the_first_and_last_classes_of_imagenet():
    whole = catalogue.published_classes("imagenet1k")
    assert (whole[0], whole[217], whole[999]) == ("n01440764", "n02102040", "n15075141")
