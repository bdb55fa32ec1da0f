"""Protocols become training settings; those of docs/evaluation.md are as it states."""

import re
from pathlib import Path

import pytest
import yaml
from stillhouse.config import load as configs
from stillhouse.config import protocols, schedules, schema
from stillhouse.planning import plan

TEXT = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()
SETTINGS = TEXT.partition("\n## Differences")[0]
PAPERS = TEXT.partition("\n## Protocols of papers")[2]
SNIPPETS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAPERS, re.S)]


def config_of(snippet):
    """Return a config of digits that uses all protocols of a snippet."""
    names = {name for labels in snippet["labels"].values() for name in labels.get("teachers", ())}
    return {
        "sources": {"digits": {"kind": "digits"}},
        "datasets": {"d": {"source": "digits", "resolution": 8}},
        "teachers": {name: {"arch": "convnet1", "seed": i} for i, name in enumerate(sorted(names))},
        "methods": {"random": {"kind": "random"}},
        **snippet,
        "students": {"s": {"arch": "convnet1"}},
        "experiments": {
            "x": {
                "dataset": "d",
                "methods": ["random"],
                "ipc": [1, 10],
                "students": ["s"],
                "protocols": sorted(snippet["protocols"]),
            }
        },
    }


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: "-".join(snippet["protocols"]))
def test_protocols_written_out_are_valid(snippet):
    config = configs.complete(config_of(snippet), "docs/evaluation.md")
    cells = plan.build(config).experiments["x"]
    assert {cell["protocol"] for cell in cells} == snippet["protocols"].keys()
    for name, protocol in snippet["protocols"].items():
        settled = config["protocols"][name]
        # A half cosine is a cosine of smoothing 2; all other settings are as written.
        written = {k: v for k, v in protocol.items() if (k, v) != ("schedule", "half_cosine")}
        assert settled | written == settled


def test_every_paper_has_a_snippet():
    names = {name for snippet in SNIPPETS for name in snippet["protocols"]}
    assert names == {
        *("rded", "d3hr", "edc", "edc-ssrs", "sre2l", "sre2l-cifar100", "idc", "dc"),
        "ruo-other-students",
    }


def training(protocol, ipc):
    (snippet,) = (s for s in SNIPPETS if protocol in s["protocols"] and protocol != "edc")
    wanted = plan.build(configs.complete(config_of(snippet), "docs/evaluation.md"))
    (settings,) = (
        row["artifact"].settings
        for row in wanted.experiments["x"]
        if (row["protocol"], row["ipc"], row["seed"]) == (protocol, ipc, 0)
    )
    return settings


def test_protocols_of_idc_and_dc_have_their_published_settings():
    assert training("idc", 1)["training"] == {
        "loss": "ce",
        "epochs": 3000,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 0.0005,
        "schedule": "multistep",
        "milestones": [2000.0, 2500.0],
        "rate_decay": 0.2,
        "batchnorm_updates": 1,
        "precision": "float32",
        "test_crop": "center_square",
        "decay": "all",
        # C argument.py: every hundredth of the epochs.
        "tests": {"every": 30, "offset": 0, "after": 0.0},
    }
    assert training("idc", 10)["training"]["epochs"] == 2000
    assert training("idc", 10)["training"]["tests"]["every"] == 20
    views = training("idc", 10)["labels"]["views"]
    assert (views["jitter"], views["lighting"], views["crop"]) == (0.4, 0.1, [0.5, 1.0])
    settings = training("dc", 10)["training"]
    wanted = (1001, [502.0], 0.1)
    assert tuple(settings[k] for k in ("epochs", "milestones", "rate_decay")) == wanted
    assert training("dc", 10)["labels"]["views"]["siamese"]["per"] == "row"


def rows():
    """Return the cells of the first table's rows, without its header."""
    lines = [line for line in SETTINGS.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_setting_of_the_table_is_in_the_schema():
    defs = schema.schema()["$defs"]
    known = {
        "labels": defs["labels"]["properties"] | defs["labels_soft"]["properties"],
        "views": defs["views"]["properties"],
        "protocols": defs["protocol"]["properties"],
    }
    assert len(rows()) > 20
    for setting, what, used_by, source in rows():
        assert what and used_by and source
        section, key = re.match(r"`(\w+)\.(\w+)", setting).groups()
        assert key in known[section], setting


def test_every_augmentation_schedule_loss_and_encoding_has_its_line():
    named = " ".join(row[0] for row in rows())
    defs = schema.schema()["$defs"]
    wanted = {*schedules.SCHEDULES, *schedules.KEYS, "ema", "float16", "int8", "topK"}
    wanted |= {"randaugment", "jitter", "lighting", "siamese", "cutmix", "mixup", "batch", "row"}
    wanted |= set(defs["protocol"]["properties"]["loss"]["enum"])
    assert [name for name in sorted(wanted) if not re.search(rf"\b{name}\b", named)] == []


def cell(protocol, network=None, labels="soft", arch="", n_classes=10, resolution=32, ipc=10):
    """Return training settings and batch size of a protocol with few settings."""
    defaults = {"labels": labels, "fidelity": "code", "epochs": 300, "batch_size": "auto"}
    defaults |= {"learning_rate": "auto", "report": "last", "on_divergence": "error"}
    defaults |= {"temperature": 20.0, "ce_weight": 0.1}
    defaults |= {"tests": {"every": 10, "offset": 0, "after": 0.8}}
    settled = protocols.settled({**defaults, **protocol}, labels)
    network = network or {"arch": "convnet3"}
    return protocols.for_cell(settled, network, arch, n_classes, resolution, ipc)


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({}, {"schedule": "cosine", "smoothing": 2.0}),
        ({"fidelity": "paper"}, {"schedule": "cosine", "smoothing": 1.0}),
        (
            {"schedule": "multistep", "epochs": 10, "milestones": [9, 0.25]},
            {"schedule": "multistep", "milestones": [3.0, 9.0], "rate_decay": 0.2},
        ),
    ],
)
def test_every_key_of_a_schedule_is_written_out(changes, written):
    settings, _ = cell(changes)
    keys = {"schedule", *schedules.KEYS}
    assert {k: v for k, v in settings.items() if k in keys} == written


def test_settings_that_shape_no_student_are_omitted():
    settings, _ = cell({})
    left_out = {"labels", "report", "batch_size", "fidelity", "ce_weight", "on_divergence"}
    assert not left_out & settings.keys()
    assert settings["batchnorm_updates"] == 2 and settings["temperature"] == 20.0
    for network in ({"arch": "convnet3", "norm": "instance"}, {"arch": "alexnet_small"}):
        assert "batchnorm_updates" not in cell({"learning_rate": 1.0}, network)[0]
    hard, _ = cell({}, labels="hard")
    assert hard["loss"] == "ce" and not {"temperature", "ce_weight"} & hard.keys()


@pytest.mark.parametrize(
    ("short", "written"),
    [
        ({"schedule": "half_cosine"}, {"schedule": "cosine", "smoothing": 2.0}),
        ({"schedule": "cosine"}, {"schedule": "cosine", "smoothing": 1.0}),
        ({"schedule": "multistep"}, {"schedule": "multistep", "rate_decay": 0.2}),
        # Two thirds and five sixths of nine epochs.
        ({"schedule": "multistep"}, {"schedule": "multistep", "milestones": [8, 6]}),
        ({"schedule": "ssrs"}, {"schedule": "ssrs", "smoothing": 2.0}),
        ({"schedule": "linear"}, {"schedule": "linear", "smoothing": 1.0}),
        ({"schedule": "alrs"}, {"schedule": "alrs", "rate_decay": 0.9975}),
    ],
)
def test_equivalent_schedules_have_equal_settings(short, written):
    assert cell({"epochs": 9, **short}) == cell({"epochs": 9, **written})
    assert cell({"epochs": 9, **short}) != cell({"epochs": 9, "schedule": "one_cycle"})


@pytest.mark.parametrize(
    ("ipc", "n_classes", "resolution", "batch_size"),
    [
        (1, 10, 32, 10),
        (10, 10, 128, 50),
        (50, 10, 224, 100),
        (1, 100, 224, 20),
        (10, 100, 224, 100),
        (50, 100, 224, 200),
        (50, 1000, 64, 200),
        (1, 200, 64, 100),
        (10, 200, 64, 100),
        (50, 200, 64, 100),
        # 200 classes of another resolution are not Tiny-ImageNet.
        (50, 200, 224, 200),
        # At most all images; other IPCs as the next smaller one.
        (1, 3, 32, 3),
        (2, 10, 32, 10),
        (49, 10, 32, 50),
        (100, 10, 32, 100),
    ],
)
def test_batch_sizes_are_those_of_rded(ipc, n_classes, resolution, batch_size):
    task = {"arch": "convnet4", "n_classes": n_classes, "resolution": resolution, "ipc": ipc}
    assert cell({}, **task)[1] == batch_size
    assert cell({"batch_size": 8}, **task)[1] == min(8, ipc * n_classes)


@pytest.mark.parametrize(
    ("student", "teacher", "n_classes", "resolution", "batch_size", "rate"),
    [
        ("convnet3", "convnet3", 100, 32, 25, 0.002),
        ("convnet4", "convnet3", 100, 32, 25, 0.001),
        ("convnet3", "convnet4", 100, 32, 100, 0.001),
        ("convnet3", "convnet3", 100, 64, 100, 0.001),
        ("convnet3", "convnet3", 10, 32, 50, 0.001),
        ("convnet3", "resnet18_modified", 100, 32, 100, 0.001),
    ],
)
def test_convnet3_on_cifar100_has_entries_of_its_own(
    student, teacher, n_classes, resolution, batch_size, rate
):
    settings, size = cell({}, {"arch": student}, "soft", teacher, n_classes, resolution)
    assert (size, settings["learning_rate"]) == (batch_size, rate)


# argument.py of LINs-lab/RDED, with the names of architectures used here.
RATES = {
    "resnet18_modified": 0.001,
    "resnet101_modified": 0.001,
    "convnet3": 0.001,
    "convnet6": 0.001,
    "torchvision/vgg11": 0.0005,
    "torchvision/resnet18": 0.001,
    "torchvision/resnet50": 0.001,
    "torchvision/resnet101": 0.001,
    "torchvision/efficientnet_b0": 0.002,
    "torchvision/mobilenet_v2": 0.0025,
    "torchvision/alexnet": 0.0001,
    "torchvision/vit_b_16": 0.0001,
    "torchvision/swin_v2_t": 0.0001,
}


@pytest.mark.parametrize("arch", RATES)
def test_learning_rates_are_those_of_rded(arch):
    settings, _ = cell({}, {"arch": arch}, arch=arch)
    assert (settings["learning_rate"], settings["loss"]) == (RATES[arch], "kl")
    assert cell({"learning_rate": 0.5}, {"arch": arch})[0]["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("ipc", "n_classes", "epochs"),
    [
        *((1, 10, 3000), (2, 10, 2000), (10, 10, 2000), (20, 10, 1500), (50, 10, 1500)),
        *((100, 10, 1000), (200, 10, 1000), (300, 10, 500), (501, 10, 300), (10, 1000, 2000)),
        *((1, 100, 2000), (10, 100, 1300), (20, 100, 1000), (100, 100, 600), (501, 100, 200)),
    ],
)
def test_epochs_are_those_of_idc(ipc, n_classes, epochs):
    assert cell({"epochs": "auto"}, n_classes=n_classes, ipc=ipc)[0]["epochs"] == epochs
    assert cell({"epochs": 7}, n_classes=n_classes, ipc=ipc)[0]["epochs"] == 7


@pytest.mark.parametrize(
    ("fidelity", "side", "crop", "patches"),
    [("code", 1, 1.0, 1), ("code", 2, 0.5, 2), ("code", 4, 0.25, 4), ("paper", 2, 0.08, 1)],
)
def test_views_are_those_of_rded(fidelity, side, crop, patches):
    chosen = {"patches_per_side": side, "flip": 0.5, "mix": "none"}
    views = protocols.views({"views": chosen, "fidelity": fidelity})
    assert views == {**chosen, "crop": [crop, 1.0], "patches_per_side": patches}
    explicit = {**chosen, "crop": [0.3, 0.4], "shuffle_patches": True}
    views = protocols.views({"views": explicit, "fidelity": fidelity})
    assert (views["crop"], views["patches_per_side"]) == ([0.3, 0.4], side)
