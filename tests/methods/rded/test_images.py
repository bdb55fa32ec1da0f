import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.methods.common.features import features, read_features
from stillhouse.methods.common.selection import herding, kmeans
from stillhouse.methods.rded.images import images_of_class
from stillhouse.methods.rded.patch_scores import patch_scores

functional = pytest.importorskip("torchvision.transforms.v2.functional")

BOX = ("top", "left", "height", "width")
SCORING = {
    **{"crops_per_image": 2, "images_per_class": 20, "crop": [0.08, 1.0], "scoring": "pad"},
    "patches_per_side": 1,
}
SETTINGS = {
    **{"resolution": 8, "patches_per_side": 1, "patches_per_image": 1, "selection": "realism"},
    **{"assignment": "rank_blocks", "rounding": "truncate"},
}


@pytest.fixture
def distil(class_images, teacher, compute):
    """Return a function from IPC and settings to one class's images; and the inputs."""
    inputs = {"images": class_images, "teacher": teacher}
    inputs["scores"] = compute(patch_scores, "patch_scores", inputs, SCORING)

    def distil(ipc, class_id="1", **changes):
        spec = {"settings": {**SETTINGS, **changes}, "keys": {"ipc": ipc, "seed": 0}}
        return images_of_class(inputs, spec, class_id, Context())

    return distil, inputs


def ranked(inputs, class_id="1"):
    """Return the best crop of each image, best first."""
    rows = store.read_table(inputs["scores"][class_id]).to_pylist()
    best = [
        max((r for r in rows if r["image_id"] == name), key=lambda r: r["score"])
        for name in {r["image_id"] for r in rows}
    ]
    best.sort(key=lambda r: -r["score"])
    return [{name: row[name] for name in ("image_id", *BOX)} for row in best]


def crop_of(inputs, patch, side, class_id="1"):
    data = read_class(inputs["images"][class_id], "train").read(patch["image_id"])
    image = torch.from_numpy(decode(data).copy()).float()
    return functional.resized_crop(image, *(patch[k] for k in BOX), [side, side], antialias=True)


def test_single_crops_are_the_best_ranked_and_nested(distil):
    distil, inputs = distil
    for class_id in inputs["images"]:
        largest = distil(5, class_id)
        assert [origin for _, origin in largest] == [[p] for p in ranked(inputs, class_id)[:5]]
        for ipc in (1, 3):
            for actual, wanted in zip(distil(ipc, class_id), largest[:ipc], strict=True):
                np.testing.assert_array_equal(actual[0], wanted[0])
                assert actual[1] == wanted[1]


def test_pixels_are_the_crops_truncated(distil):
    distil, inputs = distil
    for pixels, (patch,) in distil(3):
        # Truncated, except for rounding errors of integers.
        rest = crop_of(inputs, patch, 8).clamp(0, 255) - torch.from_numpy(pixels).float()
        assert rest.min() > -2e-3
        assert rest.max() < 1


@pytest.mark.parametrize("assignment", ["rank_blocks", "random"])
def test_images_consist_of_four_patches(distil, assignment):
    distil, inputs = distil
    images = distil(2, patches_per_side=2, assignment=assignment, rounding="nearest")
    best = ranked(inputs)[:8]
    places = [[best.index(patch) for patch in origin] for _, origin in images]
    if assignment == "rank_blocks":
        assert places == [[0, 2, 4, 6], [1, 3, 5, 7]]
    else:
        assert sorted(places[0] + places[1]) == list(range(8))
    for pixels, origin in images:
        image = torch.from_numpy(pixels).float()
        quadrants = [image[:, :4, :4], image[:, :4, 4:], image[:, 4:, :4], image[:, 4:, 4:]]
        for patch, quadrant in zip(origin, quadrants, strict=True):
            assert (crop_of(inputs, patch, 4).clamp(0, 255) - quadrant).abs().max() < 0.502


def patches_of(images):
    return {str(patch) for _, origin in images for patch in origin}


def test_smaller_sets_take_the_best_of_the_same_ranking(distil):
    distil, _ = distil
    used = [patches_of(distil(ipc, patches_per_side=2)) for ipc in (1, 2, 3)]
    assert used[0] < used[1] < used[2]
    assert [len(patches) for patches in used] == [4, 8, 12]


def test_a_set_nested_in_a_larger_one_is_its_beginning(distil):
    distil, _ = distil
    alone, largest = distil(1, patches_per_side=2), distil(3, patches_per_side=2)
    (nested,) = distil(1, patches_per_side=2, nested_in=3)
    np.testing.assert_array_equal(nested[0], largest[0][0])
    assert nested[1] == largest[0][1] != alone[0][1]


@pytest.mark.parametrize("selection", ["random", "herding", "kmeans"])
def test_patches_are_selected_among_the_best_of_each_image(distil, compute, selection):
    distil, inputs = distil
    described = {"patches_per_side": 1, "patches_per_image": 1, "scoring": "pad"}
    inputs["features"] = compute(features, "features", inputs, described)
    for class_id in inputs["images"]:
        selected = [patch for _, (patch,) in distil(3, class_id, selection=selection)]
        best = ranked(inputs, class_id)
        assert len({patch["image_id"] for patch in selected}) == 3
        assert all(patch in best for patch in selected)
        assert selected != best[:3]
        if selection != "random":
            vectors = read_features(inputs["features"][class_id])
            names, points = [name for name, _ in vectors], np.stack(list(vectors.values()))
            rng = generator(0, "selection", class_id)
            order = herding(points, 3) if selection == "herding" else kmeans(points, 3, rng)
            assert [patch["image_id"] for patch in selected] == [names[i] for i in order]


def test_too_few_patches_give_fewer_images(distil):
    distil, _ = distil
    assert len(distil(99)) == 20
    assert len(distil(99, patches_per_side=2)) == 5
