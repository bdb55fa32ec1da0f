import numpy as np
import pytest
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.methods.common.features import features, read_features
from stillhouse.methods.common.selection import herding, kmeans
from stillhouse.methods.coresets.images import coreset_images, random_images


def ids_of(images):
    return [origin["image_id"] for _, (origin,) in images]


def coreset(inputs, kind, class_id, ipc):
    spec = {"settings": {"kind": kind, "resolution": 8}, "keys": {"ipc": ipc, "seed": 0}}
    return coreset_images(inputs, spec, class_id, Context())


@pytest.mark.parametrize("kind", ["herding", "kmeans"])
def test_images_are_selected_in_the_feature_space_of_the_teacher(
    class_images, teacher, compute, kind
):
    described = compute(features, "features", {"images": class_images, "teacher": teacher}, {})
    inputs = {"images": class_images, "features": described}
    for class_id in class_images:
        vectors = read_features(described[class_id])
        names, points = [name for name, _ in vectors], np.stack(list(vectors.values()))
        for ipc in (1, 3):
            if kind == "herding":
                order = herding(points, ipc)
            else:
                order = kmeans(points, ipc, generator(0, "kmeans", class_id))
            selected = coreset(inputs, kind, class_id, ipc)
            assert ids_of(selected) == [names[i] for i in order]
            assert {origin["height"] for _, (origin,) in selected} == {8}


def test_without_features_images_are_selected_by_their_pixels(class_images):
    rows = read_class(class_images["1"], "train")
    points = np.stack([decode(data) for _, data in rows]).reshape(len(rows), -1) / 255
    selected = coreset({"images": class_images}, "herding", "1", 3)
    assert ids_of(selected) == [rows[i][0] for i in herding(points, 3)]
    for pixels, (origin,) in selected:
        np.testing.assert_array_equal(pixels, decode(rows.read(origin["image_id"])))


@pytest.mark.parametrize("kind", ["herding", "kmeans"])
def test_a_class_with_fewer_images_gives_all_of_them(class_images, kind):
    selected = coreset({"images": class_images}, kind, "1", 99)
    assert sorted(ids_of(selected)) == read_class(class_images["1"], "train").image_ids


def test_random_images_are_nested_and_belong_to_seed_and_class(class_images):
    def ids(ipc, seed=0):
        spec = {"settings": {"resolution": 8}, "keys": {"ipc": ipc, "seed": seed}}
        return ids_of(random_images({"images": class_images}, spec, "0", Context()))

    names = read_class(class_images["0"], "train").image_ids
    assert sorted(ids(99)) == names != ids(99)
    assert ids(3) == ids(99)[:3]
    assert ids(99, seed=1) != ids(99)
