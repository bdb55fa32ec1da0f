import numpy as np
import pyarrow as pa
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.data.codecs import encode
from stillhouse.data.distilled_set import LearnedParts, set_schema
from stillhouse.errors import StillhouseError
from stillhouse.evaluation import label_sources, students

VIEWS = {"crop": [1.0, 1.0], "flip": 0.0, "patches_per_side": 1, "mix": "none"}
LOGITS = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]], np.float32)


def write_set(folder, learned):
    """Write a distilled set of two images; return its file."""
    rows = [
        {
            "image": {"bytes": encode(np.full((3, 4, 4), 50 * i, np.uint8), "png"), "path": None},
            "label": i,
            "class_id": str(i),
            "index": 0,
            "origin": [],
        }
        for i in range(2)
    ]
    schema = set_schema({}, learned)
    if learned is not None and learned.labels is not None:
        rows = [
            {**row, "learned_label": label.tolist()}
            for row, label in zip(rows, learned.labels, strict=True)
        ]
    table = pa.Table.from_pylist(rows, schema=schema)
    store.write(folder, {"address": str(folder)}, {"images.parquet": table})
    return folder / "images.parquet"


def learned_labels(path, **views):
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    settings = {"kind": "learned", "views": {**VIEWS, **views}, "batch_size": 2}
    hard = torch.tensor([0, 1])
    return label_sources.open_labels(settings, images, hard, ["0", "1", "2"], {"distilled": path})


def test_learned_logits_are_targets_by_softmax(tmp_path):
    labels = learned_labels(write_set(tmp_path / "set", LearnedParts(LOGITS, "logits")))
    views, targets = labels.epoch(0, seed=0)
    wanted = torch.from_numpy(LOGITS).softmax(1)[views.index]
    assert torch.equal(targets[:], wanted)


def test_learned_probabilities_are_mixed_as_the_views_are(tmp_path):
    shares = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], np.float32)
    path = write_set(tmp_path / "set", LearnedParts(shares, "probabilities"))
    labels = learned_labels(path, mix="mixup", mix_alpha=1.0, mix_per="row")
    views, targets = labels.epoch(3, seed=1)
    own = torch.from_numpy(shares)[views.index]
    weight = views.mix_weight[:, None]
    wanted = weight * own + (1 - weight) * own[views.partner]
    torch.testing.assert_close(targets[:], wanted)


@pytest.mark.parametrize("learned", [None, LearnedParts(learning_rate=0.1)])
def test_missing_learned_labels_are_named(tmp_path, learned):
    path = write_set(tmp_path / "set", learned)
    with pytest.raises(StillhouseError, match="learned_label: missing column; ") as error:
        learned_labels(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_the_learned_rate_of_a_set_replaces_the_value_learned(tmp_path):
    path = write_set(tmp_path / "set", LearnedParts(learning_rate=0.125))
    settings = {"learning_rate": "learned", "epochs": 3}
    assert students.with_learned_rate(settings, path) == {"learning_rate": 0.125, "epochs": 3}
    fixed = {"learning_rate": 0.5}
    assert students.with_learned_rate(fixed, None) is fixed


def test_a_missing_learned_rate_is_named(tmp_path):
    path = write_set(tmp_path / "set", LearnedParts(LOGITS, "logits"))
    with pytest.raises(StillhouseError, match="learning_rate: missing metadata; ") as error:
        students.with_learned_rate({"learning_rate": "learned"}, path)
    assert str(error.value).startswith(str(path))
