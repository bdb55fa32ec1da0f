import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.data.boxes import centre_box
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.transforms import cut, normalise
from stillhouse.methods.common.selection import WHOLE, herding, kmeans, read_features
from stillhouse.rng import generator
from stillhouse.training.teachers import load_teacher


def made_with(tiny, planned, make_all, **method):
    """Make the sets of one method; return the plan and the sets' rows by IPC."""
    name, settings = method.popitem()
    tiny["methods"][name] = settings
    tiny["experiments"]["x"] |= {"methods": [name], "protocols": ["hard"], "ipc": [1, 3]}
    wanted = planned(tiny)
    wanted.families["students"].clear()
    make_all(wanted)
    return wanted, {
        a.keys["ipc"]: store.read_table(a.directory / "images.parquet").to_pylist()
        for a in wanted.single["distilled"].values()
    }


def family_of(wanted, stage):
    (family,) = wanted.families[stage].values()
    return family.artifact


def seen_by_the_teacher(wanted, class_id, boxes):
    """Return what the teacher's last layer is given, from the parts of the network by hand."""
    (teacher,) = wanted.single["teacher"].values()
    net, _, _ = load_teacher(teacher.directory / "model.safetensors", torch.device("cpu"))
    images = family_of(wanted, "images").at(class_id=class_id).directory / "images.parquet"
    data = dict(read_class(images, "train"))
    found = {}
    for key, box in boxes.items():
        image = torch.from_numpy(decode(data[key[0]]).copy())[None]
        box = torch.from_numpy(centre_box(*image.shape[2:]) if box is None else box)[None]
        found[key] = net.features(normalise(cut(image, box, 8))).flatten()
    return found


def test_features_are_what_the_last_layer_is_given(made, tiny, planned, make_all):
    wanted, _ = made_with(tiny, planned, make_all, h={"kind": "herding", "features": "t"})
    for class_id in "02":
        path = family_of(wanted, "features").at(class_id=class_id).directory / "features.parquet"
        found = read_features(path)
        by_hand = seen_by_the_teacher(wanted, class_id, dict.fromkeys(found))
        assert len(found) > 100
        assert all(crop == WHOLE for _, crop in found)
        for key, vector in found.items():
            np.testing.assert_allclose(vector, by_hand[key], atol=1e-5)


def points_of(wanted, class_id):
    path = family_of(wanted, "features").at(class_id=class_id).directory / "features.parquet"
    found = read_features(path)
    return list(found), np.stack(list(found.values()))


@pytest.mark.parametrize("kind", ["herding", "kmeans"])
def test_whole_images_are_chosen_in_the_space_of_the_teacher(made, tiny, planned, make_all, kind):
    wanted, sets = made_with(tiny, planned, make_all, m={"kind": kind, "features": "t"})
    for class_id in "012":
        keys, points = points_of(wanted, class_id)
        for ipc in (1, 3):
            order = (
                herding(points, ipc)
                if kind == "herding"
                else kmeans(points, ipc, generator(0, "kmeans", class_id))
            )
            rows = [row for row in sets[ipc] if row["class_id"] == class_id]
            found = [row["origin"][0]["image_id"] for row in rows]
            assert found == [keys[i][0] for i in order]
            assert {row["origin"][0]["height"] for row in rows} == {8}


def test_pixels_need_no_teacher(made, tiny, planned, make_all):
    wanted, sets = made_with(tiny, planned, make_all, m={"kind": "herding", "features": "pixels"})
    assert not {"teacher", "features"} & (wanted.single.keys() | wanted.families.keys())
    path = family_of(wanted, "images").at(class_id="1").directory / "images.parquet"
    rows = read_class(path, "train")
    points = np.stack([decode(data) for _, data in rows]).reshape(len(rows), -1)
    wanted_ids = [rows[i][0] for i in herding(points, 3)]
    found = [r["origin"][0]["image_id"] for r in sets[3] if r["class_id"] == "1"]
    assert found == wanted_ids


RDED = {"kind": "rded", "teacher": "t", "crops_per_image": 2, "images_per_class": 20}


@pytest.mark.parametrize("selection", ["random", "herding", "kmeans"])
def test_patches_are_selected_as_said_among_the_best_of_each_image(
    made, tiny, planned, make_all, selection
):
    _, best = made_with(tiny, planned, make_all, m=RDED)
    wanted, sets = made_with(tiny, planned, make_all, m={**RDED, "selection": selection})
    assert ("features" in wanted.families) == (selection != "random")
    for class_id in "012":
        scores = family_of(wanted, "patch_scores").at(class_id=class_id).directory
        rows = store.read_table(scores / "scores.parquet").to_pylist()
        top = {}
        for row in sorted(rows, key=lambda row: -row["score"]):
            top.setdefault(row["image_id"], row)
        found = [r["origin"][0] for r in sets[3] if r["class_id"] == class_id]
        assert len({patch["image_id"] for patch in found}) == 3
        for patch in found:
            assert {k: top[patch["image_id"]][k] for k in patch} == patch
        if selection != "random":
            keys, points = points_of(wanted, class_id)
            assert set(keys) == {(name, row["crop"]) for name, row in top.items()}
            boxes = {
                key: np.array([[top[key[0]][k] for k in ("top", "left", "height", "width")]])[0]
                for key in keys
            }
            by_hand = seen_by_the_teacher(wanted, class_id, boxes)
            np.testing.assert_allclose(points, np.stack([by_hand[k] for k in keys]), atol=1e-5)
            rng = generator(0, "selection", class_id)
            order = herding(points, 3) if selection == "herding" else kmeans(points, 3, rng)
            assert [p["image_id"] for p in found] == [keys[i][0] for i in order]
    assert sets[3] != best[3]


def test_a_set_nested_in_a_larger_one_is_its_beginning(made, tiny, planned, make_all):
    tiny["labels"]["hard"] = {"kind": "hard", "views": {"patches_per_side": 2}}
    settings = {**RDED, "patches_per_side": 2}
    _, alone = made_with(tiny, planned, make_all, m=settings)
    wanted, nested = made_with(tiny, planned, make_all, m={**settings, "nested_in": 3})
    assert nested[3] == alone[3]
    starts = [row for row in nested[3] if row["index"] < 1]
    assert nested[1] == starts
    assert nested[1] != alone[1]
    assert {
        a.keys["ipc"]: "nested_in" in a.settings for a in wanted.single["distilled"].values()
    } == {
        1: True,
        3: False,
    }
