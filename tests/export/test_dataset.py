"""Exported sets: what `datasets` reads, and the layout without it."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from stillhouse import DistilledSet
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.evaluation.logit_encodings import decode_logits
from stillhouse.export import dataset

from tests.export.conftest import inside

KINDS = ["png", "jpeg", "webp", "bitstream", "learned"]
FORMATS = {"jpeg": "JPEG", "webp": "WEBP"}  # others: PNG
# A process of its own: `datasets` reads the environment when it is imported.
LOADER = """
import io, json, sys
from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset
def read(folder, name):
    rows = load_dataset(folder, name, split="train")
    own = {
        "splits": get_dataset_split_names(folder, name),
        "features": {column: str(feature) for column, feature in rows.features.items()},
        "rows": len(rows),
    }
    if name == "images":
        own["names"] = rows.features["label"].names
        own["labels"] = rows["label"][:]
        own["sizes"] = [image.size for image in rows["image"]]
        own["pixels"] = [list(image.convert("RGB").tobytes()) for image in rows["image"]]
    if "logits" in rows.features:
        first = rows[0]["logits"]
        own["first"] = list(first) if isinstance(first, bytes) else first
    if "learned_label" in rows.features:
        own["learned"] = rows["learned_label"][:]
    return own
print(json.dumps([
    {name: read(folder, name) for name in get_dataset_config_names(folder)}
    for folder in sys.argv[1:]
]))
"""


@pytest.fixture(scope="module")
def exported(all_kinds, tmp_path_factory):
    """Return {kind: (parts of its exported set, what `datasets` reads of them, offline)}."""
    root, parts = tmp_path_factory.mktemp("exported"), {}
    with inside(all_kinds) as specs:
        for kind in KINDS:
            parts[kind] = dataset.export(specs[kind], root / kind)
    command = [sys.executable, "-c", LOADER, *(str(root / kind) for kind in KINDS)]
    environment = {**os.environ, "HF_HOME": str(root / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    return {kind: (parts[kind], own) for kind, own in zip(KINDS, read, strict=True)}


def front_matter(folder):
    """Return the metadata of a card."""
    _, text, _ = (Path(folder) / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(text)


@pytest.mark.parametrize("kind", KINDS)
def test_datasets_reads_the_images_of_every_kind_of_set(kind, results, exported):
    read = exported[kind][1]["images"]
    stored = DistilledSet(Path(results[kind]["address"]) / "images.parquet")
    assert (read["splits"], read["names"]) == (["train"], ["0", "1", "2"])
    assert read["labels"] == stored.labels.tolist() == [0, 1, 2]
    assert read["sizes"] == [[8, 8]] * 3
    pixels = np.array(read["pixels"]).reshape(3, 8, 8, 3).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(pixels, stored.images.numpy())
    if kind == "learned":
        np.testing.assert_allclose(read["learned"], stored.learned_labels.numpy())
        assert "float32" in read["features"]["learned_label"]


def test_datasets_reads_soft_labels_of_every_encoding(results, exported):
    parts, read = exported["png"]
    assert list(read) == [part.name for part in parts]
    encodings = {part.spec["settings"]["encoding"] for part in parts[1:]}
    assert encodings == {"float16", "int8", "top2"}
    for part in parts[1:]:
        table = store.read_table(part.source)
        own = read[part.name]
        assert own["rows"] == len(table) == 2 * 3  # epochs × images
        assert list(own["features"]) == table.column_names
        first = table["logits"][0].as_py()
        np.testing.assert_allclose(own["first"], list(first))
    logits = [decode_logits(store.read_table(part.source), 3) for part in parts[1:]]
    np.testing.assert_allclose(logits[0], logits[1], atol=0.05)  # of the same teacher and views


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_describes_the_files_beside_it(kind, results, tmp_path):
    """Without `datasets`: paths, columns, types, rows and class names, by pyarrow and yaml."""
    dataset.export(results[kind], tmp_path / "out")
    front = front_matter(tmp_path / "out")
    infos = {info["config_name"]: info for info in front["dataset_info"]}
    assert list(infos) == [one["config_name"] for one in front["configs"]]
    for config in front["configs"]:
        ((split,), info) = config["data_files"], infos[config["config_name"]]
        path = tmp_path / "out" / split["path"]
        stored = pq.ParquetFile(path)
        assert [one["name"] for one in info["features"]] == stored.schema_arrow.names
        assert info["splits"][0]["name"] == split["split"] == "train"
        assert info["splits"][0]["num_examples"] == stored.metadata.num_rows
        assert info["download_size"] == path.stat().st_size
    columns = {one["name"]: one for one in infos["images"]["features"]}
    assert columns["image"]["dtype"] == "image"
    assert columns["label"]["dtype"] == {"class_label": {"names": {"0": "0", "1": "1", "2": "2"}}}
    images = pq.read_table(tmp_path / "out/images/train.parquet")["image"].to_pylist()
    formats = {Image.open(io.BytesIO(image["bytes"])).format for image in images}
    assert formats == {FORMATS.get(kind, "PNG")}


def test_files_of_artifacts_are_copied_unchanged(results, tmp_path):
    parts = dataset.export(results["jpeg"], tmp_path / "out")
    assert [part.name for part in parts] == ["images", "soft_labels"]
    for part in parts:
        assert (tmp_path / "out" / part.file).read_bytes() == part.source.read_bytes()
    images = DistilledSet(tmp_path / "out/images/train.parquet")
    assert len(images) == 3


def test_a_soft_label_table_is_exported_with_its_set_alone(results, tmp_path):
    chosen = dataset.label_tables(results["png"])[1]
    parts = dataset.export(chosen, tmp_path / "out")
    assert [part.name for part in parts] == ["images", "soft_labels"]
    assert parts[1].spec["address"] == chosen["address"]
    assert parts[0].spec["address"] == results["png"]["address"]


def test_other_stages_are_an_error(results, tmp_path):
    teacher = next(iter(dataset.label_tables(results["png"])))["upstream"]["teachers"][0]
    with pytest.raises(StillhouseError, match=r"stage teacher; must be a distilled set"):
        dataset.export(teacher, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_set_is_an_error_and_leaves_nothing(made, tmp_path):
    spec = next(iter(made.artifacts["distilled"].values())).spec()
    path = Path(spec["address"]) / "images.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StillhouseError, match="altered"):
        dataset.export(spec, tmp_path / "parent/out")
    assert not (tmp_path / "parent").exists()
