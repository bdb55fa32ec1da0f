"""Results of a config with every kind of set: PNG, JPEG, WebP, bitstreams, learned labels.

Beside them are students of full data, and a soft label table without views.
"""

import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from stillhouse.config import schema
from stillhouse.methods import registry
from stillhouse.planning import reports
from stillhouse.reporting import tables

from tests.conftest import TINY
from tests.methods import test_learned as learning

CODEC = {
    **{"decoder": "v4-16", "context": 8, "depth": 1},
    "warmup": {"beta": 100, "restarts": 1, "finalists": 1, "iterations": 2, "final_iterations": 0},
}
METHODS = {
    "png": {"kind": "random"},
    "jpeg": {"kind": "rded", "teacher": "t", "crops_per_image": 2, "images_per_class": 20},
    "webp": {"kind": "random", "encoding": "webp30"},
    "bitstream": {"kind": "compressed", **CODEC},
    "learned": {"kind": "learner"},
}
SOFT = TINY["labels"]["soft"]


def config():
    """Return the config; three label tables per set of the experiment ``soft``."""
    names = {"float16": "float16", "int8": "int8", "top2": "top2"}
    labels = {name: {**SOFT, "encoding": encoding} for name, encoding in names.items()}
    labels["top2"]["views_stored"] = False
    own = {"kind": "learned", "views": {"flip": 0.0}}
    training = {"epochs": 2, "batch_size": 4}
    x = TINY["experiments"]["x"]
    return {
        **TINY,
        "sources": {"digits": {"kind": "digits", "license": "cc-by-4.0"}},
        "methods": METHODS,
        "labels": {**labels, "own": own},
        "protocols": {
            **{name: {"labels": name, **training} for name in labels},
            "hard": {"labels": "hard", **training},
            "own": {"labels": "own", **training, "learning_rate": "learned"},
        },
        "experiments": {
            "hard": {
                **{**x, "methods": list(METHODS), "ipc": [1], "protocols": ["hard"]},
                "full_data": ["matched"],
            },
            "soft": {**x, "methods": ["png"], "ipc": [1], "protocols": list(labels)},
            "one": {**x, "methods": ["jpeg"], "ipc": [1], "protocols": ["float16"]},
            "own": {**x, "methods": ["learned"], "ipc": [1], "protocols": ["own"], "seeds": [0]},
        },
    }


def put_tables(plan):
    """Make the tables of all experiments."""
    Path("signatures.json").write_text(json.dumps({}))
    inputs = {"published": [], "signatures": [Path("signatures.json")], "indexes": []}
    for name, cells in plan.experiments.items():
        suffixes = {"csv": "csv", "markdown": "md", "latex": "tex"}
        outputs = {key: Path(f"results/tables/{name}.{end}") for key, end in suffixes.items()}
        params = {"cells": reports.identities(cells)}
        tables.tables({**inputs, "datasets": []}, params, outputs)
    Path("signatures.json").unlink()


@pytest.fixture(scope="session")
def all_kinds(tmp_path_factory, planned, make_all):
    """Compute the results once; return folder and plan; read only."""
    folder, schemas = (tmp_path_factory.mktemp(name) for name in ("all_kinds", "schemas"))
    shutil.copytree(schema.METHODS, schemas, dirs_exist_ok=True)
    (schemas / "learner.yaml").write_text(learning.SCHEMA)
    assembled = schema.assemble(schemas)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setattr(schema, "schema", lambda: assembled)
        patch.setitem(registry.METHODS, "learner", learning.Learner())
        plan = planned(config())
        make_all(plan)
        put_tables(plan)
    return SimpleNamespace(folder=folder, plan=plan)


@contextlib.contextmanager
def inside(all_kinds):
    """Work in the folder of the results; yield {method: spec of its set}."""
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(all_kinds.folder):
        patch.setitem(registry.METHODS, "learner", learning.Learner())
        sets = all_kinds.plan.artifacts["distilled"].values()
        yield {artifact.slug: artifact.spec() for artifact in sets}


@pytest.fixture
def results(all_kinds):
    """Change into the results; return {method: spec of its set}."""
    with inside(all_kinds) as specs:
        yield specs
