"""The protocols that docs/protocols.md writes out are valid, and are what it says they are."""

import re
from pathlib import Path

import pytest
import yaml
from stillhouse.config import load as configs
from stillhouse.config import protocols, schema
from stillhouse.planning import plan

TEXT = (Path(__file__).parents[2] / "docs/protocols.md").read_text()
SNIPPETS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]


def whole(snippet):
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
    config = configs.complete(whole(snippet), "docs/protocols.md")
    cells = plan.build(config).experiments["x"]
    assert {cell["protocol"] for cell in cells} == snippet["protocols"].keys()
    for name, given in snippet["protocols"].items():
        assert config["protocols"][name] == given | {"fidelity": "code", "precision": "float32"} | {
            k: v for k, v in config["protocols"][name].items() if k in ("temperature", "ce_weight")
        }


def test_all_papers_are_there():
    names = {name for snippet in SNIPPETS for name in snippet["protocols"]}
    assert names == {
        *("rded", "d3hr", "edc", "edc-ssrs", "sre2l", "sre2l-cifar100", "idc", "dc"),
        "ruo-other-students",
    }


def trainings(protocol, ipc):
    (snippet,) = (s for s in SNIPPETS if protocol in s["protocols"] and protocol != "edc")
    wanted = plan.build(configs.complete(whole(snippet), "docs/protocols.md"))
    (found,) = (
        cell["artifact"].settings
        for cell in wanted.experiments["x"]
        if (cell["protocol"], cell["ipc"], cell["seed"]) == (protocol, ipc, 0)
    )
    return found


def test_idc_and_dc_are_what_they_should_be():
    assert trainings("idc", 1)["training"] == {
        "loss": "ce",
        "epochs": 3000,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 0.0005,
        "schedule": "multistep",
        "batchnorm_updates": 1,
        "precision": "float32",
        "test_view": "whole",
    }
    assert trainings("idc", 10)["training"]["epochs"] == 2000
    views = trainings("idc", 10)["labels"]["views"]
    assert (views["jitter"], views["lighting"], views["crop"]) == (0.4, 0.1, [0.5, 1.0])
    training = trainings("dc", 10)["training"]
    wanted = (1001, [502.0], 0.1)
    assert tuple(training[k] for k in ("epochs", "milestones", "rate_decay")) == wanted
    assert trainings("dc", 10)["labels"]["views"]["siamese"]["per"] == "row"


def rows():
    """Return the cells of the first table's rows, without its header."""
    lines = [line for line in TEXT.splitlines() if line.startswith("| `")]
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
    wanted = {*protocols.SCHEDULES, *protocols.SCHEDULE_KEYS, "ema", "float16", "int8", "topK"}
    wanted |= {"randaugment", "jitter", "lighting", "siamese", "cutmix", "mixup", "batch", "row"}
    wanted |= set(defs["protocol"]["properties"]["loss"]["enum"])
    assert [name for name in sorted(wanted) if not re.search(rf"\b{name}\b", named)] == []
