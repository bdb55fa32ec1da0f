import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.data.boxes import centre_box
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.transforms import cut, normalise
from stillhouse.methods.common.features import WHOLE, features, features_table, read_features
from stillhouse.methods.rded.patch_scores import patch_scores
from stillhouse.training.teachers import load_teacher

RDED = {
    **{"crops_per_image": 3, "images_per_class": 20, "crop": [0.2, 1.0], "scoring": "pad"},
    **{"patches_per_side": 1, "patches_per_image": 2},
}


def features_by_hand(teacher, images, boxes):
    """Return the input of the teacher's last layer, from the parts of the network."""
    net = load_teacher(teacher, torch.device("cpu")).net
    data = dict(read_class(images, "train"))
    vectors = {}
    for key, box in boxes.items():
        image = torch.from_numpy(decode(data[key[0]]).copy())[None]
        box = torch.from_numpy(centre_box(*image.shape[2:]) if box is None else box)[None]
        vectors[key] = net.features(normalise(cut(image, box, 8))).flatten()
    return vectors


@pytest.mark.parametrize("batch_size", [7, 64])
def test_features_of_images_are_the_input_of_the_last_layer(
    class_images, teacher, compute, batch_size
):
    inputs = {"images": class_images, "teacher": teacher}
    paths = compute(features, "features", inputs, {}, batch_size=batch_size)
    for class_id, path in paths.items():
        vectors = read_features(path)
        names = read_class(class_images[class_id], "train").image_ids
        assert list(vectors) == [(name, WHOLE) for name in names]
        wanted = features_by_hand(teacher, class_images[class_id], dict.fromkeys(vectors))
        for key, vector in vectors.items():
            np.testing.assert_allclose(vector, wanted[key], atol=1e-5)


def test_features_of_patches_are_those_of_the_best_crops_of_each_image(
    class_images, teacher, compute
):
    inputs = {"images": class_images, "teacher": teacher}
    inputs["scores"] = compute(patch_scores, "patch_scores", inputs, RDED)
    paths = compute(features, "features", inputs, RDED)
    for class_id, path in paths.items():
        rows = store.read_table(inputs["scores"][class_id]).to_pylist()
        best = {}
        for row in sorted(rows, key=lambda row: -row["score"]):
            best.setdefault(row["image_id"], []).append(row)
        boxes = {
            (row["image_id"], row["crop"]): np.array(
                [row[k] for k in ("top", "left", "height", "width")]
            )
            for rows_of_image in best.values()
            for row in rows_of_image[:2]
        }
        vectors = read_features(path)
        assert vectors.keys() == boxes.keys() and len(boxes) == 40
        wanted = features_by_hand(teacher, class_images[class_id], boxes)
        for key, vector in vectors.items():
            np.testing.assert_allclose(vector, wanted[key], atol=1e-5)


def test_the_table_returns_what_was_written(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    table = features_table(["a", "a", "b"], [0, 4, WHOLE], matrix)
    store.write(tmp_path / "x", {"address": str(tmp_path / "x")}, {"f.parquet": table})
    vectors = read_features(tmp_path / "x" / "f.parquet")
    assert list(vectors) == [("a", 0), ("a", 4), ("b", WHOLE)]
    np.testing.assert_array_equal(np.stack(list(vectors.values())), matrix)
