"""A finished experiment of small synthetic artifacts, and rows of its table."""

import hashlib
import itertools
import json
import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
from stillhouse.artifacts import store
from stillhouse.artifacts.addresses import canonical
from stillhouse.reporting import comparisons, tables

REPORT = Path(__file__).parents[2] / "workflow/report"
TABLES = {"csv": "csv", "markdown": "md", "latex": "tex"}
CLASSES = ["0", "1", "2"]
TESTS = {"n_tests": 6, "first_test": 250, "last_test": 300}
SECONDS = {
    "index": 1,
    "images": 10,
    "teacher": 100,
    "patch_scores": 1000,
    "distilled": 10_000,
    "labels": 100_000,
    "students": 1_000_000,
}


def spec_of(stage, name, settings=None, upstream=None, **keys):
    """Return the spec of an artifact at ``results/<stage>/<name>``."""
    spec = {
        "address": f"results/{stage}/{name}",
        "keys": keys,
        "settings": settings or {},
        "stage": stage,
        "upstream": upstream or {},
        "version": 1,
    }
    return {**spec, "digest": hashlib.sha256(canonical(spec).encode()).hexdigest()[:12]}


def put_timing(folder, seconds=0.0):
    """Write the ``timing.json`` of an artifact or of a member."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    timing = {"seconds": seconds, "device": "abacus", "finished": "2026-01-01"}
    (Path(folder) / "timing.json").write_text(json.dumps(timing))


def put(spec, files):
    """Write an artifact with its timing; return its spec."""
    store.write(spec["address"], spec, files)
    put_timing(spec["address"], SECONDS.get(spec["stage"], 0))
    return spec


def put_set(kind, ipc, upstream):
    """Write a distilled set of small images; return its spec."""
    from PIL import Image

    rows = []
    for label, class_id in enumerate(CLASSES):
        for index in range(ipc):
            path = Path("image.png")
            Image.new("RGB", (8, 8), (80 * label, 40 * index, 0)).save(path)
            image = {"bytes": path.read_bytes(), "path": "x.png"}
            rows.append({"image": image, "label": label, "class_id": class_id, "index": index})
    settings = {"classes": CLASSES, "kind": kind, "resolution": 8}
    spec = spec_of("distilled", f"{kind}-ipc{ipc}", settings, upstream, ipc=ipc, seed=0)
    return put(spec, {"images.parquet": pa.Table.from_pylist(rows)})


def put_labels(distilled, teacher, recognised="87.5"):
    """Write a soft label table of a set; return its spec."""
    name = f"{Path(distilled['address']).name}-soft"
    upstream = {"distilled": distilled, "teachers": [teacher]}
    spec = spec_of("labels", name, {"encoding": "float16"}, upstream)
    table = pa.table({"logits": [1.0] * distilled["keys"]["ipc"]})
    return put(spec, {"labels.parquet": table.replace_schema_metadata({"recognised": recognised})})


def put_cell(distilled, labels, seed):
    """Write one student; return its spec."""
    kind = "soft" if labels else "hard"
    settings = {
        "labels": {"kind": kind},
        "network": {"arch": "convnet1"},
        "training": {"epochs": 2, "temperature": 20.0},
    }
    upstream = {"distilled": distilled, **({"labels": labels} if labels else {})}
    name = f"{Path(distilled['address']).name}-{kind}/seed{seed}"
    spec = spec_of("students", name, settings, upstream, seed=seed)
    accuracy = 50 + 5 * distilled["keys"]["ipc"] + seed / 3
    curve = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "accuracy": accuracy}]
    cell = {"accuracy": accuracy, "accuracy_best": accuracy + 1, "accuracy_top5": None}
    return put(spec, {"cell.json": {**cell, "curve": curve}})


def put_experiment():
    """Write 16 cells and their lineage; return their identities.

    Two methods at two IPCs, soft and hard labels, two student seeds.
    """
    index = put(spec_of("index", "digits", {"name": "digits"}), {"index.json": {}})
    images = spec_of("images", "digits", {}, {"index": index})
    teacher = spec_of("teacher", "t", {"arch": "convnet1", "classes": CLASSES}, {"images": images})
    put_timing(teacher["address"], SECONDS["teacher"])
    scores = spec_of("patch_scores", "s", {}, {"images": images, "teacher": teacher})
    for part, class_id in itertools.product((images, scores), CLASSES):
        put_timing(Path(part["address"]) / class_id, SECONDS[part["stage"]])
    upstream = {"random": {"images": images}, "rded": {"images": images, "scores": scores}}
    cells = []
    for (kind, parts), ipc in itertools.product(upstream.items(), (1, 2)):
        distilled = put_set(kind, ipc, parts)
        tables = {"soft": put_labels(distilled, teacher), "hard": None}
        for (protocol, labels), seed in itertools.product(tables.items(), (0, 1)):
            cell = put_cell(distilled, labels, seed)
            cells.append(identity(kind, ipc, protocol, seed, cell["address"]))
    return cells


def put_full_data():
    """Write students of full data at two IPCs and two seeds; return their identities.

    Their accuracy is 90 %, of 12 training images with 100 bytes each.
    """
    splits = ["train"] * 4 + ["test"]
    rows = [{"class_id": c, "split": s, "bytes": 100} for c in CLASSES for s in splits]
    index = spec_of("index", "listed", {"name": "digits"})
    put(index, {"index.parquet": pa.Table.from_pylist(rows)})
    images = spec_of("images", "digits", {}, {"index": index})
    counts = [{"class_id": class_id, "train": 4, "test": 1} for class_id in CLASSES]
    upstream = {"images": images, "index": index}
    dataset = spec_of("dataset", "three", {"classes": CLASSES}, upstream)
    put(dataset, {"dataset.json": {"classes": counts, "in_both_splits": 0}})
    cells = []
    for seed in (0, 1):
        settings = {"classes": CLASSES, "labels": {"kind": "hard"}}
        spec = spec_of(
            "students", f"full-data/seed{seed}", settings, {"images": dataset}, seed=seed
        )
        curve = [{"epoch": 1, "loss": 1.0, "accuracy": 90.0}]
        accuracies = {"accuracy": 90.0, "accuracy_best": 90.0, "accuracy_top5": None}
        put(spec, {"cell.json": {**accuracies, "curve": curve}})
        for ipc in (1, 2):
            own = identity("full_data", ipc, "hard", seed, spec["address"])
            cells.append({**own, "method": "full data, 9 epochs", "teacher": ""})
    return sorted(cells, key=lambda cell: cell["ipc"])


def identity(kind, ipc, protocol, seed, artifact):
    """Return what identifies a cell, as a plan has it."""
    soft = protocol == "soft"
    return {
        "experiment": "x",
        "dataset": "three",
        "n_classes": len(CLASSES),
        "resolution": 8,
        "method": kind,
        "fidelity": "code",
        "ipc": ipc,
        "distill_seed": 0,
        "teacher": "t" if soft or kind == "rded" else "",
        "student": "s",
        "protocol": protocol,
        "seed": seed,
        "kind": kind,
        "arch": "convnet1",
        "artifact": artifact,
        "labels": protocol,
        "label_encoding": "float16" if soft else "",
        "label_teachers": "t" if soft else "",
        "report": "last",
        **TESTS,
        "on_divergence": "error",
        "hard_protocol": "hard",
        "twin": "",
    }


def put_tables(cells):
    """Make the tables of cells in the working directory."""
    Path("signatures.json").write_text("{}")
    inputs = {
        "published": [],
        "signatures": [Path("signatures.json")],
        "indexes": [],
        "datasets": [],
    }
    outputs = {name: Path(f"x.{suffix}") for name, suffix in TABLES.items()}
    tables.tables(inputs, {"cells": cells}, outputs)


def page_inputs(cells):
    """Return inputs and params of the page of cells in the working directory."""
    sets = {
        Path(f"results/distilled/{cell['kind']}-ipc{cell['ipc']}/images.parquet"): {
            name: cell[name] for name in ("method", "ipc", "distill_seed")
        }
        for cell in cells
        if cell["kind"] != "full_data"
    }
    inputs = {
        **{name: [Path(f"x.{suffix}")] for name, suffix in TABLES.items()},
        "pictures": [],
        "numbers": [],
        "indexes": [],
        "datasets": [],
        "sets": list(sets),
        "captions": sorted(REPORT.glob("*.rst")),
        "template": sorted((REPORT / "page").iterdir()),
    }
    return inputs, {
        "cells": cells,
        "sets": list(sets.values()),
        "pictures": [],
        "teachers": {"results/teacher/t": ["t"]},
        "config": "a.yaml",
    }


def frame(**changes):
    """Return table rows of three student seeds, with round numbers."""
    row = {
        "experiment": "e",
        "dataset": "d",
        "n_classes": 10,
        "resolution": 32,
        "student": "s",
        "method": "rded",
        "kind": "rded",
        "ipc": 10,
        "distill_seed": 0,
        "protocol": "soft",
        "labels": "soft",
        "label_encoding": "float16",
        "label_teachers": "t",
        "report": "last",
        **TESTS,
        "image_bytes": 12_345,
        "label_bytes": 678_900,
        "image_bits_per_class": 9_876.0,
        "label_bits_per_class": 543_120.0,
        "statistics_bytes": math.nan,
        "recognised": math.nan,
        "seconds_teacher": 3.0,
        "seconds_denoiser": 0.0,
        "seconds_distill": 4.0,
        "seconds_label": 5.0,
        "seconds_train": 6.0,
        "device": "abacus",
        "devices": "abacus",
        "published": None,
        "hard_protocol": "",
        "twin": "",
        **dict.fromkeys(comparisons.SCORES, math.nan),
        **changes,
    }
    scores = [(60.0, 62.0), (61.0, 61.0), (65.0, 66.0)]
    return pd.DataFrame(
        [
            {**row, "seed": seed, "accuracy": last, "accuracy_best": best}
            for seed, (last, best) in enumerate(scores)
        ]
    )
