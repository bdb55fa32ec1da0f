import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import stillhouse
import torch
from stillhouse.artifacts import formats, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.stages import DISTILLED
from stillhouse.data.codecs import encode
from stillhouse.data.distilled_set import (
    SCHEMA,
    DistilledSet,
    LearnedParts,
    read_learned,
    set_metadata,
    set_schema,
)
from stillhouse.errors import StillhouseError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5), np.uint8)
LOGITS = np.random.default_rng(1).standard_normal((4, 2), np.float32)


@pytest.fixture
def write(empty):
    """Return a function that writes a set of two classes and two images per class."""

    def write(learned=None):
        settings, keys = {"classes": ["a", "b"]}, {"ipc": 2, "seed": 0}
        artifact = Artifact(DISTILLED, "toy", settings, keys=keys, folder="three")
        columns = {
            "image": [
                {"bytes": encode(image, "png"), "path": f"{i}.png"}
                for i, image in enumerate(PIXELS)
            ],
            "label": [0, 0, 1, 1],
            "class_id": ["a", "a", "b", "b"],
            "index": [0, 1, 0, 1],
            "origin": [[]] * 4,
        }
        if learned is not None and learned.labels is not None:
            columns["learned_label"] = list(learned.labels)
        spec = artifact.spec()
        schema = set_schema(set_metadata(spec), learned)
        table = pa.table(columns, schema=schema)
        groups = formats.RowGroups(schema, [table[:2], table[2:]])
        store.write(artifact.directory, spec, {"images.parquet": groups})
        return artifact.file

    return write


def test_images_and_labels_are_those_of_the_file(write):
    images = DistilledSet(write())
    assert len(images) == 4
    assert np.array_equal(images.images.numpy(), PIXELS)
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.class_ids == ["a", "a", "b", "b"]
    image, label = images[2]
    assert torch.equal(image, images.images[2])
    assert label == 1


def test_a_transform_is_applied_to_the_image(write):
    image, label = DistilledSet(write(), lambda image: image.float().mean())[3]
    assert image.item() == pytest.approx(PIXELS[3].mean(), rel=1e-5)
    assert label == 1


@pytest.mark.parametrize("with_spec", [True, False])
def test_a_set_opens_where_it_was_copied_to(write, tmp_path, with_spec):
    path = write()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    shutil.copy(path, folder / "mine.parquet" if not with_spec else folder)
    if with_spec:
        shutil.copy(Path(path).with_name(store.SPEC), folder)
    images = DistilledSet(next(folder.glob("*.parquet")))
    assert np.array_equal(images.images.numpy(), PIXELS)


@pytest.mark.parametrize("with_spec", [True, False])
def test_an_altered_copy_is_refused_and_nobody_is_told_to_delete_it(write, tmp_path, with_spec):
    path = write()
    copied = tmp_path / "images.parquet"
    shutil.copy(path, copied)
    if with_spec:
        shutil.copy(Path(path).with_name(store.SPEC), tmp_path)
    copied.write_bytes(copied.read_bytes()[:-9])
    with pytest.raises(StillhouseError) as error:
        DistilledSet(copied)
    assert str(copied) in str(error.value)
    assert "delete" not in str(error.value)


def test_a_set_without_learned_parts_has_none(write):
    path = write()
    assert read_learned(path) is None
    images = DistilledSet(path)
    assert images.learned_labels is None
    assert images.learned_label_kind is None
    assert images.learning_rate is None
    assert store.read_table(path).schema.names == SCHEMA.names


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("learning_rate", [None, 0.0123456789012345])
def test_learned_labels_and_learning_rate_are_restored(write, kind, learning_rate):
    path = write(LearnedParts(LOGITS, kind, learning_rate))
    learned = read_learned(path)
    assert np.array_equal(learned.labels, LOGITS)
    assert learned.labels.dtype == np.float32
    assert (learned.label_kind, learned.learning_rate) == (kind, learning_rate)
    images = DistilledSet(path)
    assert torch.equal(images.learned_labels, torch.from_numpy(LOGITS))
    assert images.learned_label_kind == kind
    assert images.learning_rate == learning_rate
    assert np.array_equal(images.images.numpy(), PIXELS)


def test_a_learning_rate_needs_no_learned_labels(write):
    path = write(LearnedParts(learning_rate=1e-3))
    learned = read_learned(path)
    assert learned.labels is None
    assert learned.learning_rate == 1e-3
    assert DistilledSet(path).learned_labels is None


@pytest.mark.parametrize("kind", [None, "scores"])
def test_learned_labels_of_an_unknown_kind_are_errors(write, kind):
    path = write(LearnedParts(LOGITS, kind))
    message = r"images\.parquet: learned_label_kind: invalid .* must be one of logits, prob"
    with pytest.raises(StillhouseError, match=message):
        read_learned(path)


def test_metadata_describe_the_set_for_hugging_face(write):
    metadata = store.read_table(write()).schema.metadata
    assert json.loads(metadata[b"class_names"]) == ["a", "b"]
    assert (metadata[b"dataset"], metadata[b"method"]) == (b"three", b"toy")
    assert (metadata[b"ipc"], metadata[b"seed"]) == (b"2", b"0")
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": ["a", "b"], "_type": "ClassLabel"}
    assert list(features["origin"][0]) == ["image_id", "top", "left", "height", "width"]


def test_the_package_exports_the_set_without_importing_torch():
    assert stillhouse.DistilledSet is DistilledSet
    with pytest.raises(AttributeError, match="no attribute 'Distilled'"):
        stillhouse.Distilled  # noqa: B018
    code = "import sys, stillhouse; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
