"""A few numbers of the artifacts of every stage, which are likely to change with them."""

import csv
import itertools
import json
import zlib
from pathlib import Path

import numpy as np
from stillhouse.artifacts import store
from stillhouse.data.bitstream import files
from stillhouse.data.codecs import decode
from stillhouse.data.distilled_set import read_set
from stillhouse.evaluation.label_tables import load_labels
from stillhouse.methods.common.features import read_features
from stillhouse.methods.registry import stages
from stillhouse.reporting import tables


def gist(array):
    """Return a few numbers of an array that are likely to change with it."""
    flat = np.asarray(array, np.float64).ravel()
    places = np.cos(np.arange(len(flat)))
    return [len(flat), float(flat.mean()), float(flat.std()), float(flat @ places)]


def text_gist(rows):
    return [len(rows), zlib.crc32("\n".join(map(str, rows)).encode())]


def paths(plan, stage, name):
    """Return the files of a stage, in the order of the plan."""
    single = [one.directory / name for one in plan.artifacts.get(stage, {}).values()]
    members = [
        Path(family.artifact.member_file(member)).with_name(name)
        for family in plan.families.get(stage, {}).values()
        for member in family.members
    ]
    return single + members


def of_index(plan):
    (path,) = paths(plan, "index", "index.parquet")
    rows = store.read_table(path, ["class_id", "image_id", "split"]).to_pylist()
    return {"rows": text_gist([tuple(row.values()) for row in rows])}


def of_images(plan):
    rows = [
        row
        for path in paths(plan, "images", "images.parquet")
        for row in store.read_table(path).to_pylist()
    ]
    pixels = [decode(row["image"]["bytes"]) for row in rows]
    return {"ids": text_gist([(r["image_id"], r["split"]) for r in rows]), "pixels": gist(pixels)}


def of_teacher(plan):
    (path,) = paths(plan, "teacher", "model.safetensors")
    curve = store.read_json(path.with_name("metrics.json"))["curve"]
    weights = store.read_tensors(path)
    return {
        "loss": [row["loss"] for row in curve],
        **{name: gist(tensor) for name, tensor in weights.items() if name.endswith("weight")},
    }


def of_patch_scores(plan):
    rows = [
        row
        for path in paths(plan, "patch_scores", "scores.parquet")
        for row in store.read_table(path).to_pylist()
    ]
    boxes = [(r["image_id"], r["top"], r["left"], r["height"], r["width"]) for r in rows]
    return {"boxes": text_gist(boxes), "scores": gist([row["score"] for row in rows])}


def of_denoiser(plan):
    (path,) = paths(plan, "denoiser", "denoiser.json")
    metrics = store.read_json(path)["metrics"]
    numbers = {"psnr": metrics["psnr_test"], "std": metrics["latent_std"]}
    for part in ("vae", "transformer"):
        file = path.parent / part / "diffusion_pytorch_model.safetensors"
        tensors = sorted(store.read_tensors(file).items())
        # No biases: those of keys and before group norms have no gradient but rounding errors.
        weights = [tensor.numpy().ravel() for _, tensor in tensors if tensor.ndim > 1]
        numbers[part] = [*text_gist([name for name, _ in tensors]), *gist(np.concatenate(weights))]
    return numbers


def of_tensors(stage):
    def of(plan):
        return {
            f"{i} {name}": gist(tensor)
            for i, path in enumerate(paths(plan, stage, stages()[stage].files[0]))
            for name, tensor in store.read_tensors(path).items()
        }

    return of


def of_statistics(plan):
    # Summarised by the last part of the name, since names are many.
    numbers = {}
    for i, path in enumerate(paths(plan, "statistics", "statistics.safetensors")):
        tensors = sorted(store.read_tensors(path).items())
        for of in ("count", "mean", "within", "between"):
            values = [np.ravel(tensor) for name, tensor in tensors if name.split(".")[-1] == of]
            numbers[f"{i} {of}"] = gist(np.concatenate(values))
    return numbers


def of_synthesis(plan):
    numbers = {}
    for family in plan.families["synthesis"].values():
        settings = family.artifact.settings
        parts = settings["order"], settings["initial"], f"flatness {settings['flatness']['kind']}"
        name = ", ".join(parts)
        for number in family.members:
            folder = Path(family.artifact.member_file(number)).parent
            rows = store.read_table(folder / "images.parquet").to_pylist()
            pixels = [decode(row["image"]["bytes"]) for row in rows]
            numbers[f"{name}, batch {number} pixels"] = gist(pixels)
            numbers[f"{name}, batch {number} curve"] = store.read_json(folder / "curve.json")
    return numbers


def of_trajectories(plan):
    # Weights of all epochs together: there are many.
    numbers = {}
    for i, path in enumerate(paths(plan, "trajectories", "snapshots.safetensors")):
        weights = sorted(store.read_tensors(path).items())
        numbers[f"{i} weights"] = gist(np.concatenate([np.ravel(w) for _, w in weights]))
        numbers[f"{i} losses"] = store.read_json(path.with_name("curve.json"))["loss"]
    return numbers


def of_matched(plan):
    numbers = {}
    for path in paths(plan, "matched", "images.parquet"):
        kind = store.read_spec(path.parent)["settings"]["utility"]
        rows = store.read_table(path)
        pixels = [decode(row["bytes"]) for row in rows["image"].to_pylist()]
        numbers[f"{kind} pixels"] = gist(pixels)
        numbers[f"{kind} curve"] = store.read_json(path.with_name("curve.json"))["distance"]
        rate = (rows.schema.metadata or {}).get(b"learning_rate")
        if rate is not None:
            numbers[f"{kind} rate"] = float(rate)
    return numbers


def of_compression(plan):
    numbers = {}
    for i, path in enumerate(paths(plan, "compression", "state.safetensors")):
        numbers[f"{i} vector"] = gist(store.read_tensors(path)["vector"])
        numbers[f"{i} runs"] = store.read_json(path.with_name("curve.json"))["runs"]
    return numbers


def of_rate_utility(plan):
    (path,) = paths(plan, "rate_utility", "state.safetensors")
    curve = store.read_json(path.with_name("curve.json"))["curve"]
    return {"vector": gist(store.read_tensors(path)["vector0"]), "curve": curve}


def of_bound(plan):
    (path,) = paths(plan, "bound", "bound.json")
    return store.read_json(path)


def of_bitstream(plan):
    numbers = {}
    for i, path in enumerate(paths(plan, "bitstream", "slice.bits")):
        contents, report = files.read(path.read_bytes(), path), path.with_name("report.json")
        numbers[f"{i} pixels"] = gist(contents.images())
        numbers[f"{i} steps"] = store.read_json(report)["steps"]
    return numbers


def of_decode(plan):
    numbers = {}
    for i, path in enumerate(paths(plan, "decode", "images.parquet")):
        rows = store.read_table(path).to_pylist()
        numbers[str(i)] = gist([decode(row["image"]["bytes"]) for row in rows])
    return numbers


def of_class_scores(plan):
    numbers = {}
    for i, path in enumerate(paths(plan, "class_scores", "scores.parquet")):
        rows = store.read_table(path).to_pylist()
        boxes = [(r["image_id"], r["top"], r["left"], r["height"], r["width"]) for r in rows]
        numbers[f"{i} boxes"] = text_gist(boxes)
        numbers[f"{i} scores"] = gist([row["score"] for row in rows])
    return numbers


def of_clusters(plan):
    numbers = {}
    for i, path in enumerate(paths(plan, "clusters", "clusters.parquet")):
        rows = store.read_table(path).to_pylist()
        placed = [(r["image_id"], r["cluster_rank"], r["rank"]) for r in rows]
        numbers[f"{i} places"] = text_gist(sorted(placed))
        numbers[f"{i} distances"] = gist(sorted(row["distance"] for row in rows))
    return numbers


def of_features(plan):
    numbers = {}
    both = (paths(plan, name, "features.parquet") for name in ("features", "patch_features"))
    for path in itertools.chain(*both):
        spec, points = store.read_spec(path.parent), list(read_features(path).values())
        of = "patches of " * ("scores" in spec["upstream"])
        of += spec["settings"].get("features", "")
        numbers[of + path.parent.name] = gist(np.stack(points))
    return numbers


def of_distilled(plan):
    numbers = {}
    for path in paths(plan, "distilled", "images.parquet"):
        table = store.read_table(path)
        pixels, hard = read_set(table)
        settings = store.read_spec(path.parent)["settings"]
        kind = " ".join(settings[k] for k in ("kind", "selection") if k in settings)
        kind += " 2" * (f"{kind} pixels" in numbers)
        numbers[f"{kind} pixels"] = gist(pixels)
        numbers[f"{kind} labels"] = hard.tolist()
        numbers[f"{kind} origins"] = text_gist(table["origin"].to_pylist())
    return numbers


def of_labels(plan):
    numbers = {}
    for i, path in enumerate(paths(plan, "labels", "labels.parquet")):
        table = load_labels(path)
        for epoch in range(2):
            views, logits = table.epoch(epoch)
            drawn = [views.index, views.box, views.flip, views.patch_order, views.partner]
            drawn = [int(n) for array in [*drawn, views.mix_box] for n in array.ravel()]
            numbers[f"{i} views of epoch {epoch}"] = text_gist(drawn)
            numbers[f"{i} logits of epoch {epoch}"] = gist(logits)
            if views.op.numel():
                numbers[f"{i} operations of epoch {epoch}"] = text_gist(views.op.ravel().tolist())
                numbers[f"{i} magnitudes of epoch {epoch}"] = gist(views.magnitude)
    return numbers


def of_students(plan):
    numbers = {}
    for i, path in enumerate(paths(plan, "students", "cell.json")):
        cell = store.read_json(path)
        numbers[f"losses {i}"] = [row["loss"] for row in cell["curve"]]
        if "ema" in store.read_spec(path.parent)["settings"]["training"]:
            numbers[f"accuracy {i}"] = cell["accuracy"]
    return numbers


def of_tables(plan):
    """Write tables of constant cells with constant timings."""
    for path in Path("results").glob("**/timing.json"):
        path.write_text(json.dumps({"seconds": len(path.parts[1]), "device": "abacus"}))
    cells = [
        {**cell, "artifact": str(Path(cell["artifact"].member_file(cell["seed"])).parent)}
        for cell in plan.experiments["x"]
    ]
    for i, cell in enumerate(cells):
        content = {"accuracy": 50 + i * i, "accuracy_best": 60 + i, "accuracy_top5": None}
        spec = store.read_spec(cell["artifact"])
        del spec["files"]
        store.write(cell["artifact"], spec, {"cell.json": content})
    outputs = {"csv": Path("x.csv"), "markdown": Path("x.md"), "latex": Path("x.tex")}
    signatures = Path("signatures.json")
    signatures.write_text("{}")
    inputs = {"published": [], "signatures": [signatures], "indexes": [], "datasets": []}
    tables.tables(inputs, {"cells": cells}, outputs)
    with open("x.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    # Encoded bytes depend on the release of the encoder, digests on the version of all stages.
    left_out = {"image_bytes", "label_bytes", "digest", "artifact"}
    left_out |= {"image_bits_per_class", "label_bits_per_class"}
    table = [row for row in Path("x.md").read_text().splitlines() if row.startswith("| r")]
    return {
        "rows": [",".join(v for k, v in row.items() if k not in left_out) for row in rows],
        "hard label bytes": [int(r["label_bytes"]) for r in rows if r["protocol"] == "hard"],
        "hard label bits per class": [
            float(r["label_bits_per_class"]) for r in rows if r["protocol"] == "hard"
        ],
        "markdown": [" ".join(row.split()[:10]) for row in table],
    }


STAGES = {
    "index": of_index,
    "images": of_images,
    "teacher": of_teacher,
    "denoiser": of_denoiser,
    **{stage: of_tensors(stage) for stage in ("latents", "inversion", "samples", "prototypes")},
    "decode": of_decode,
    "patch_scores": of_patch_scores,
    "class_scores": of_class_scores,
    "features": of_features,
    "clusters": of_clusters,
    "statistics": of_statistics,
    "synthesis": of_synthesis,
    "whitening": of_tensors("whitening"),
    "trajectories": of_trajectories,
    "matched": of_matched,
    "compression": of_compression,
    "rate_utility": of_rate_utility,
    "bound": of_bound,
    "bitstream": of_bitstream,
    "distilled": of_distilled,
    "labels": of_labels,
    "students": of_students,
    "tables": of_tables,
}
