"""Learned labels and a learned rate, from a config to its table."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.config import schema
from stillhouse.data.distilled_set import DistilledSet, LearnedParts
from stillhouse.errors import StillhouseError
from stillhouse.methods import distilled, registry
from stillhouse.methods.coresets.method import Random
from stillhouse.planning import reports
from stillhouse.planning.inputs import job_inputs
from stillhouse.reporting import tables

from tests.config.changes import all_of, drop, put, refusal

RATE = 0.03125
SCHEMA = """\
title: random images with learned labels and a learned rate
properties:
  learn_labels: {type: boolean, default: true, description: "learn labels, not only the rate"}
"""


class Learner(Random):
    """Random images with made-up labels and a learning rate."""

    kind = "learner"
    learned = f"{__name__}:learned_parts"

    def learns(self, settings):
        """Return what it learns besides images."""
        return {"learning_rate"} | ({"labels"} if settings["learn_labels"] else set())


def learned_parts(inputs, spec, context):
    """Return logits that differ from row to row, and a learning rate."""
    if not spec["settings"]["learn_labels"]:
        return LearnedParts(learning_rate=RATE)
    n_classes, ipc = len(spec["settings"]["classes"]), spec["keys"]["ipc"]
    logits = generator(0, "learner").standard_normal((n_classes * ipc, n_classes), np.float32)
    return LearnedParts(logits, "logits", RATE)


@pytest.fixture
def learner(tiny, tmp_path, monkeypatch):
    """Return a small config of a method that learns labels and a learning rate."""
    shutil.copytree(schema.METHODS, tmp_path / "schemas")
    (tmp_path / "schemas/learner.yaml").write_text(SCHEMA)
    assembled = schema.assemble(tmp_path / "schemas")
    monkeypatch.setattr(schema, "schema", lambda: assembled)
    monkeypatch.setitem(registry.METHODS, "learner", Learner())
    training = {"epochs": 2, "batch_size": 4, "learning_rate": "learned"}
    return {
        **tiny,
        "methods": {"learner": {"kind": "learner"}, "random": {"kind": "random"}},
        "labels": {"own": {"kind": "learned", "views": {"flip": 0.0, "mix": "mixup"}}},
        "protocols": {
            "own": {"labels": "own", **training},
            "fixed": {"labels": "own", **training, "learning_rate": RATE},
            "hard": {"labels": "hard", **training},
        },
        "experiments": {
            "x": {
                **tiny["experiments"]["x"],
                "methods": ["learner"],
                "ipc": [2],
                "protocols": ["own", "fixed", "hard"],
                "seeds": [0],
            }
        },
    }


def table(plan):
    """Make the tables of an experiment; return the CSV's rows by protocol, and the Markdown."""
    signatures = Path("signatures.json")
    signatures.write_text(json.dumps({}))
    inputs = {"published": [], "signatures": [signatures], "indexes": [], "datasets": []}
    outputs = {name: Path(f"x.{name}") for name in ("csv", "markdown", "latex")}
    cells = reports.identities(plan.experiments["x"])
    tables.tables(inputs, {"cells": cells}, outputs)
    with open("x.csv", newline="") as stream:
        rows = {row["protocol"]: row for row in csv.DictReader(stream)}
    return rows, Path("x.markdown").read_text()


def the_set(plan):
    """Return the artifact of the only distilled set."""
    (artifact,) = plan.artifacts["distilled"].values()
    return artifact


def test_students_train_on_learned_labels_and_rate_to_a_table(learner, planned, make_all, empty):
    plan = planned(learner)
    make_all(plan)
    artifact = the_set(plan)
    images = DistilledSet(artifact.file)
    wanted = learned_parts(None, artifact.spec(), None)
    np.testing.assert_array_equal(images.learned_labels, wanted.labels)
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (images.learned_label_kind, images.learning_rate) == ("logits", RATE)

    students = {cell["protocol"]: cell["artifact"] for cell in plan.experiments["x"]}
    assert students["own"].settings["training"]["learning_rate"] == "learned"
    assert students["own"].settings["labels"].keys() == {"kind", "batch_size", "views"}
    assert students["own"].upstream.keys() == {"distilled", "images"}
    curves = {
        name: store.read_json(Path(student.member_file(0)))["curve"]
        for name, student in students.items()
    }
    assert curves["own"] == curves["fixed"] != curves["hard"]

    rows, markdown = table(plan)
    assert {name: row["labels"] for name, row in rows.items()} == {
        **{"own": "learned", "fixed": "learned", "hard": "hard"},
    }
    n_rows, n_classes = 6, 3
    assert int(rows["own"]["label_bytes"]) == n_rows * n_classes * 4
    assert int(rows["hard"]["label_bytes"]) == 2  # 6 log2 3 bits
    assert {(row["seconds_label"], row["recognised"]) for row in rows.values()} == {("0.0000", "")}
    assert "- own: learned labels; after the last epoch." in markdown
    assert "- Bytes of learned labels: 4 per image and class." in markdown


def test_a_method_may_learn_the_rate_alone(learner, planned, make_all, empty):
    learner["methods"]["learner"]["learn_labels"] = False
    learner["experiments"]["x"]["protocols"] = ["hard"]
    plan = planned(learner)
    make_all(plan)
    images = DistilledSet(the_set(plan).file)
    assert (images.learned_labels, images.learning_rate) == (None, RATE)


def test_hugging_face_opens_learned_labels(learner, planned, make_all, empty, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    plan = planned(learner)
    plan.families["students"].clear()
    make_all(plan)
    path = the_set(plan).file
    loaded = datasets.load_dataset("parquet", data_files=path, split="train", cache_dir="cache")
    assert loaded.features["label"].names == ["0", "1", "2"]
    wanted = DistilledSet(path).learned_labels
    np.testing.assert_array_equal(np.float32(loaded["learned_label"]), wanted)


def files_of(plan):
    """Return the files of the only set, computed but not written."""
    spec = the_set(plan).spec()
    return distilled.distilled(job_inputs(spec), spec, Context())(None, None)


@pytest.fixture
def returning(learner, planned, make_all, empty, monkeypatch):
    """Return a function from what the method learns to the file of its set."""
    plan = planned(learner)
    plan.families["students"].clear()
    make_all(plan)

    def file(parts, folder="set"):
        monkeypatch.setattr(f"{__name__}.learned_parts", lambda *arguments: parts)
        store.write(folder, {"address": folder}, files_of(plan))
        return Path(folder) / "images.parquet"

    return file


def test_a_set_with_nothing_learned_has_the_bytes_of_one_without(returning, monkeypatch):
    nothing = returning(LearnedParts(), "nothing").read_bytes()
    monkeypatch.setattr(Learner, "learned", "")
    assert returning(None, "without").read_bytes() == nothing


WRONG = {
    "shape": (
        LearnedParts(np.zeros((3, 3), np.float32), "logits"),
        r"labels must be float32 of shape \(6, 3\), not float32 of shape \(3, 3\); return ",
    ),
    "type": (
        LearnedParts(np.zeros((6, 3)), "logits"),
        r"labels must be float32 of shape \(6, 3\), not float64 of ",
    ),
    "kind": (
        LearnedParts(np.zeros((6, 3), np.float32), "shares"),
        "label_kind must be logits or probabilities, not 'shares'",
    ),
    "rate": (
        LearnedParts(learning_rate=float("nan")),
        "learning_rate must be more than 0 and finite, not nan; ",
    ),
}


@pytest.mark.parametrize(("parts", "message"), WRONG.values(), ids=WRONG)
def test_wrong_parts_are_errors_of_one_line(returning, parts, message):
    with pytest.raises(StillhouseError, match=f"^results/distilled/.*: {message}") as caught:
        returning(parts)
    assert "\n" not in str(caught.value)


METHODS = "experiments.x.methods"
NEITHER = "; use another protocol, or a method that learns it"
REFUSED = {
    "labels of a method without": (
        all_of(put("methods.r", {"kind": "random"}), put(METHODS, ["learner", "r"])),
        "protocols.own.labels: learned conflicts with method 'r', which learns no labels" + NEITHER,
    ),
    "labels of a variant without": (
        put(METHODS, [{"learner": {"learn_labels": False}}]),
        "protocols.own.labels: learned conflicts with method 'learner', which learns no labels",
    ),
    "rate of a method without": (
        all_of(put(METHODS, ["random"]), put("experiments.x.protocols", ["hard"])),
        "protocols.hard.learning_rate: learned conflicts with method 'random', which learns no "
        "learning_rate" + NEITHER,
    ),
    "loss of soft labels": (
        put("protocols.own.loss", "kl"),
        "protocols.own.loss: kl conflicts with learned labels; set ce",
    ),
    "temperature": (
        put("protocols.own.temperature", 4),
        "protocols.own.temperature: has no effect with loss: ce; remove it",
    ),
    "teachers": (
        put("labels.own.teachers", ["t"]),
        "labels.own: unknown key 'teachers'; ",
    ),
    "views": (
        put("labels.own.views.mix", "cutmx"),
        "labels.own.views.mix: must be one of none, cutmix, mixup, not 'cutmx'",
    ),
    "unknown kind": (
        put("labels.own.kind", "learnt"),
        "labels.own.kind: must be one of soft, hard, online, learned, not 'learnt'",
    ),
    "unknown rate": (
        put("protocols.own.learning_rate", "learnt"),
        "protocols.own.learning_rate: must be 'auto' or 'learned' or a number, not 'learnt'",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_settings_that_conflict_with_learned_parts_are_errors(learner, change, message):
    change(learner)
    assert refusal(learner).startswith(message)


def test_a_method_that_learns_is_free_to_use_other_protocols(learner, planned):
    change = all_of(
        put("labels.soft", {"kind": "soft", "teachers": ["t"]}),
        put("protocols.soft", {"labels": "soft"}),
        put("protocols.plain", {"labels": "hard"}),
        put("experiments.x.protocols", ["soft", "plain"]),
        drop("protocols.own"),
    )
    change(learner)
    kinds = {cell["protocol"]: cell["labels"] for cell in planned(learner).experiments["x"]}
    assert kinds == {"soft": "soft", "plain": "hard"}
