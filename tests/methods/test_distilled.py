import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as Pillow
from stillhouse.artifacts import formats, store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.store import Damaged, WrongType
from stillhouse.data.codecs import decode, encode
from stillhouse.data.distilled_set import DistilledSet
from stillhouse.errors import StillhouseError
from stillhouse.methods import distilled
from stillhouse.methods.statistical_matching import synthesis
from stillhouse.methods.statistical_matching.batches import batches
from stillhouse.planning.inputs import job_inputs


def artifacts_of(plan, method):
    """Return {IPC: artifact} of a method's sets."""
    return {
        artifact.keys["ipc"]: artifact
        for artifact in plan.artifacts["distilled"].values()
        if artifact.settings["kind"] == method
    }


def sets_of(plan, method):
    """Return {IPC: path} of a method's sets."""
    return {ipc: Path(artifact.file) for ipc, artifact in artifacts_of(plan, method).items()}


@pytest.mark.parametrize("method", ["random", "rded"])
def test_columns_are_as_promised(in_tiny_results, method):
    schema = pq.read_schema(sets_of(in_tiny_results, method)[2])
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    box = [(name, pa.int32()) for name in ("top", "left", "height", "width")]
    origin = pa.list_(pa.struct([("image_id", pa.string()), *box]))
    assert {field.name: field.type for field in schema} == {
        "image": image,
        "label": pa.int64(),
        "class_id": pa.string(),
        "index": pa.int32(),
        "origin": origin,
    }


@pytest.mark.parametrize("method", ["random", "rded"])
def test_metadata_name_dataset_method_and_lineage(in_tiny_results, method):
    path = sets_of(in_tiny_results, method)[2]
    metadata = {k.decode(): v.decode() for k, v in pq.read_schema(path).metadata.items()}
    assert metadata["dataset"] == "three"
    assert json.loads(metadata["class_names"]) == ["0", "1", "2"]
    assert (metadata["method"], metadata["ipc"], metadata["seed"]) == (method, "2", "0")
    spec = json.loads(metadata["spec"])
    assert spec["address"] == str(path.parent)
    assert spec["upstream"]["images"]["stage"] == "images"


def test_a_row_group_holds_a_class(in_tiny_results):
    table = pq.ParquetFile(sets_of(in_tiny_results, "random")[2])
    groups = [table.read_row_group(i).to_pylist() for i in range(table.num_row_groups)]
    assert [[row["class_id"] for row in rows] for rows in groups] == [[c] * 2 for c in "012"]
    assert [[row["label"] for row in rows] for rows in groups] == [[i] * 2 for i in range(3)]
    assert all([row["index"] for row in rows] == [0, 1] for rows in groups)


def test_labels_are_positions_in_the_dataset(made, tiny, planned, make_all):
    tiny["datasets"]["three"]["classes"] = ["2", "0", "1"]
    tiny["experiments"]["x"] |= {"methods": ["random"], "protocols": ["hard"]}
    wanted = planned(tiny)
    wanted.families["students"].clear()
    make_all(wanted)
    rows = store.read_table(sets_of(wanted, "random")[1]).to_pylist()
    assert [(row["class_id"], row["label"]) for row in rows] == [("2", 0), ("0", 1), ("1", 2)]


def test_hugging_face_opens_it_as_images_and_labels(in_tiny_results, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    path = sets_of(in_tiny_results, "rded")[2]
    loaded = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path)
    )
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded.features["label"].names == ["0", "1", "2"]
    assert loaded["label"] == [0, 0, 1, 1, 2, 2]
    first = loaded[3]
    assert isinstance(first["image"], Pillow.Image)
    assert first["image"].size == (8, 8)
    table = store.read_table(path)
    actual = np.asarray(first["image"].convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(actual, decode(table["image"][3].as_py()["bytes"]))
    assert first["origin"][0].keys() == {"image_id", "top", "left", "height", "width"}


def test_torch_opens_it(in_tiny_results):
    path = sets_of(in_tiny_results, "rded")[2]
    opened = DistilledSet(path)
    assert len(opened) == 6
    assert opened.class_ids == ["0", "0", "1", "1", "2", "2"]
    image, label = opened[4]
    assert (image.shape, image.dtype, label) == ((3, 8, 8), torch.uint8, 2)
    table = store.read_table(path)
    np.testing.assert_array_equal(image, decode(table["image"][4].as_py()["bytes"]))
    doubled = DistilledSet(str(path), transform=lambda image: image.float() * 2)
    assert torch.equal(doubled[4][0], image.float() * 2)
    batches = list(torch.utils.data.DataLoader(opened, batch_size=4))
    assert [labels.tolist() for _, labels in batches] == [[0, 0, 1, 1], [2, 2]]


def test_a_damaged_or_another_file_is_not_opened(made):
    path = sets_of(made, "random")[1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match=r"images\.parquet"):
        DistilledSet(path)
    (images,) = (family.artifact for family in made.families["images"].values())
    with pytest.raises(WrongType, match=r"column 'label': is .*; must be int64"):
        DistilledSet(images.member_file("0"))


def origins(path):
    return [row["origin"][0]["image_id"] for row in store.read_table(path).to_pylist()]


def test_random_images_are_real_training_images(in_tiny_results):
    (images,) = [f.artifact for f in in_tiny_results.families["images"].values()]
    for row in store.read_table(sets_of(in_tiny_results, "random")[2]).to_pylist():
        table = store.read_table(images.member_file(row["class_id"]))
        known = {r["image_id"]: r for r in table.to_pylist()}
        (origin,) = row["origin"]
        source = known[origin["image_id"]]
        assert source["split"] == "train"
        assert [origin[k] for k in ("top", "left", "height", "width")] == [0, 0, 8, 8]
        np.testing.assert_array_equal(
            decode(row["image"]["bytes"]), decode(source["image"]["bytes"])
        )


def test_random_sets_are_nested_and_differ_by_seed(made, tiny, planned, make_all):
    tiny["experiments"]["x"] |= {
        "methods": ["random"],
        "protocols": ["hard"],
        "ipc": [1, 2, 7],
        "distill_seeds": [0, 1],
    }
    wanted = planned(tiny)
    wanted.families["students"].clear()
    make_all(wanted)
    by = {
        (artifact.keys["ipc"], artifact.keys["seed"]): origins(artifact.file)
        for artifact in wanted.artifacts["distilled"].values()
    }
    for seed in (0, 1):
        largest = [by[7, seed][i : i + 7] for i in (0, 7, 14)]
        assert all(len(set(ids)) == 7 for ids in largest)
        for ipc in (1, 2):
            assert by[ipc, seed] == [name for ids in largest for name in ids[:ipc]]
    assert set(by[7, 0]) != set(by[7, 1])


@pytest.mark.parametrize(("method", "count"), [("random", 119), ("rded", 20)])
def test_too_few_images_are_an_error(in_tiny_results, method, count):
    artifact = artifacts_of(in_tiny_results, method)[1]
    spec = {**artifact.spec(), "keys": {"ipc": 500, "seed": 0}}
    inputs = job_inputs(spec)
    files = distilled.distilled(inputs, spec, Context())(None, None)
    with pytest.raises(StillhouseError, match=f"class '0' has only {count} images; lower"):
        list(files["images.parquet"].groups)


@pytest.mark.parametrize("encoding", ["png", "jpeg", "webp30"])
@pytest.mark.parametrize(("order", "batch_size"), [("by_class", 4), ("by_copy", 2)])
def test_a_synthesised_set_is_collected_from_all_batches(
    tiny, planned, make, empty, order, batch_size, encoding
):
    tiny["methods"]["edc"] = {
        **{"kind": "edc", "observers": ["t"], "encoding": encoding},
        **{"order": order, "batch_size": batch_size},
    }
    tiny["experiments"]["x"] |= {"methods": ["edc"], "protocols": ["hard"], "ipc": [3]}
    (artifact,) = planned(tiny).artifacts["distilled"].values()
    batched = artifact.upstream["synthesis"]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 3, 8, 8), np.uint8)
    for number, batch in enumerate(batches(batched.settings, batched.keys["ipc"])):
        rows = [
            {
                "image": {"bytes": encode(pixels[label, index], "png"), "path": None},
                "class_id": str(label),
                "index": index,
            }
            for label, index in batch
        ]
        groups = [pa.Table.from_pylist([row], synthesis.SCHEMA) for row in rows]
        member, stored = batched.member_spec(number), formats.RowGroups(synthesis.SCHEMA, groups)
        store.write(member["address"], member, {"images.parquet": stored})
    make(artifact)
    rows = store.read_table(artifact.file).to_pylist()
    suffix = encoding.rstrip("30")
    places = [(row["label"], row["class_id"], row["index"]) for row in rows]
    assert places == [(label, str(label), index) for label in range(3) for index in range(3)]
    assert {row["image"]["path"].split(".")[1] for row in rows} == {suffix}
    assert all(row["origin"] == [] for row in rows)
    for row in rows:
        data = encode(pixels[row["label"], row["index"]], encoding)
        assert row["image"]["bytes"] == data
