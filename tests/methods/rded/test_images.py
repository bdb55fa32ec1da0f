import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from stillhouse.artifacts import store
from stillhouse.data.boxes import N_DRAWS, random_boxes
from stillhouse.data.codecs import decode
from stillhouse.methods.rded import images as rded
from stillhouse.networks import registry
from stillhouse.rng import generator

functional = pytest.importorskip("torchvision.transforms.v2.functional")

CPU = torch.device("cpu")
RESOLUTION = 8
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def rows_of(sizes, seed=0):
    """Return (image id, PNG) of smooth random images of given sizes."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, size in enumerate(sizes):
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
        image = Pillow.fromarray(pixels).resize(size, Pillow.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        rows.append((f"image-{i}", buffer.getvalue()))
    return rows


@pytest.fixture(scope="module")
def net():
    """Return a network with moved running statistics, as a teacher would have."""
    net = registry.build(
        {"arch": "convnet2", "width": 8, "norm": "batch"}, 5, RESOLUTION, 3, "teacher"
    )
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        net.train()(torch.randn(16, 3, RESOLUTION, RESOLUTION, generator=rng) * 2)
    return net.eval().requires_grad_(False)


def settings(**changes):
    return {
        "crops_per_image": 4,
        "patches_per_side": 1,
        "crop": [0.08, 1.0],
        "scoring": "pad",
        **changes,
    }


def score(rows, net, batch_size=256, seed=0, label=2, class_id="cat", **changes):
    table = rded.score_class(
        rows, net, label, RESOLUTION, settings(**changes), seed, class_id, batch_size, CPU
    )
    assert table.schema.equals(rded.SCORES_SCHEMA)
    return table.to_pylist()


def naive_score(data, row, net, side, scoring, label):
    """Score one crop as the official code does, one image at a time."""
    image = torch.from_numpy(decode(data).copy()).float() / 255
    box = [row[name] for name in ("top", "left", "height", "width")]
    crop = functional.resized_crop(image, *box, [side, side], antialias=True)
    if scoring == "resize":
        crop = functional.resize(crop, [RESOLUTION, RESOLUTION], antialias=True)
    crop = (crop - MEAN) / STD
    canvas = torch.zeros(3, RESOLUTION, RESOLUTION)
    start = (RESOLUTION - crop.shape[-1]) // 2
    canvas[:, start : start + crop.shape[-1], start : start + crop.shape[-1]] = crop
    outputs = net(canvas[None])[0]
    return (outputs[label] - outputs.exp().sum().log()).item()


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("scoring", ["pad", "resize"])
@pytest.mark.parametrize("sizes", [[(20, 16)] * 5, [(20, 16), (8, 8), (31, 9), (5, 6)]])
def test_scores_are_those_of_single_crops(net, factor, scoring, sizes):
    rows = rows_of(sizes)
    found = score(rows, net, patches_per_side=factor, scoring=scoring)
    assert [(row["image_id"], row["crop"]) for row in found] == [
        (name, crop) for name, _ in rows for crop in range(4)
    ]
    data = dict(rows)
    side = RESOLUTION // factor
    wanted = [naive_score(data[row["image_id"]], row, net, side, scoring, 2) for row in found]
    assert [row["score"] for row in found] == pytest.approx(wanted, abs=1e-4)
    assert len({round(value, 3) for value in wanted}) > len(wanted) // 2


def test_crops_are_squares_addressed_by_image(net):
    rows = rows_of([(20, 16)] * 6)
    found = score(rows, net)
    assert all(row["height"] == row["width"] for row in found)
    for (name, _), some in itertools.groupby(found, lambda row: (row["image_id"], 0)):
        draws = generator(0, "crops", "cat", name).random((4, N_DRAWS))
        boxes = random_boxes(draws, 16, 20, (0.08, 1.0), ratio=(1, 1)).tolist()
        assert [[r["top"], r["left"], r["height"], r["width"]] for r in some] == boxes
    # Fewer images, and more crops of each, take nothing from the others.
    assert [r for r in score(rows[3:], net) if r["crop"] < 2] == [
        r for r in score(rows, net, crops_per_image=2) if r["image_id"] >= "image-3"
    ]


def test_seed_and_class_address_the_crops(net):
    rows = rows_of([(20, 16)] * 2)
    boxes = [
        [(r["top"], r["left"], r["height"]) for r in score(rows, net, seed=seed, class_id=name)]
        for seed, name in [(0, "cat"), (1, "cat"), (0, "dog")]
    ]
    assert boxes[0] != boxes[1] != boxes[2] != boxes[0]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 1000])
def test_scores_do_not_depend_on_the_batch(net, batch_size):
    rows = rows_of([(20, 16), (20, 16), (9, 9), (20, 16), (12, 30)])
    reference, found = score(rows, net), score(rows, net, batch_size=batch_size)
    values = [[row.pop("score") for row in some] for some in (reference, found)]
    assert found == reference
    assert values[1] == pytest.approx(values[0], abs=1e-4)


def test_preselection_is_a_prefix_of_any_larger_one():
    rows = [(f"i{n:02d}", b"") for n in range(40)]
    whole = rded.preselect(rows, 1000, 0, "cat")
    assert sorted(whole) == rows
    assert whole != rows
    for count in (0, 1, 7, 40):
        assert rded.preselect(rows, count, 0, "cat") == whole[:count]
    assert rded.preselect(rows, 40, 1, "cat") != whole
    assert rded.preselect(rows, 40, 0, "dog") != whole


def table_of(scores):
    return [
        {"image_id": name, "crop": crop, "score": value}
        for name, values in scores.items()
        for crop, value in enumerate(values)
    ]


SCORES = {"a": [-3.0, -1.0, -2.0], "b": [-0.5, -0.6, -9.0], "c": [-4.0, -1.5, -1.0]}


@pytest.mark.parametrize(
    ("patches_per_image", "expected"),
    [
        (1, "b0 a1 c2"),
        (2, "b0 b1 a1 c2 c1 a2"),
        (9, "b0 b1 a1 c2 c1 a2 a0 c0 b2"),
    ],
)
def test_the_best_crops_of_each_image_are_ranked_together(patches_per_image, expected):
    found = rded.rank_patches(table_of(SCORES), patches_per_image)
    assert [f"{row['image_id']}{row['crop']}" for row in found] == expected.split()


def test_rank_blocks_put_the_best_patches_into_the_first_places():
    # Place k of image j takes rank k · IPC + j.
    assert rded.assign(3, 4, "rank_blocks", None).tolist() == [
        [0, 3, 6, 9],
        [1, 4, 7, 10],
        [2, 5, 8, 11],
    ]


def test_random_assignment_draws_without_replacement():
    places = rded.assign(5, 4, "random", generator(0, "assignment", "cat"))
    assert places.shape == (5, 4)
    assert sorted(places.ravel().tolist()) == list(range(20))
    assert places.tolist() != rded.assign(5, 4, "rank_blocks", None).tolist()
    again = rded.assign(5, 4, "random", generator(0, "assignment", "cat"))
    assert again.tolist() == places.tolist()


@pytest.mark.parametrize(
    ("factor", "resolution"), [(1, 8), (2, 8), (2, 9), (3, 8), (3, 10), (4, 15), (8, 12)]
)
def test_stitching_is_nearest_sampling_into_a_grid(factor, resolution):
    side = resolution // factor
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (factor**2, 3, side, side), np.uint8)
    found = rded.stitch(patches, resolution)
    assert found.shape == (3, resolution, resolution)
    # Official code: the first resolution % factor rows and columns are one pixel larger.
    sizes = [side + (i < resolution % factor) for i in range(factor)]
    wanted = torch.zeros(3, resolution, resolution)
    for row, column in itertools.product(range(factor), repeat=2):
        patch = torch.from_numpy(patches[row * factor + column])[None].float()
        part = torch.nn.functional.interpolate(patch, (sizes[row], sizes[column]), mode="nearest")
        top, left = sum(sizes[:row]), sum(sizes[:column])
        wanted[:, top : top + sizes[row], left : left + sizes[column]] = part[0]
    np.testing.assert_array_equal(found, wanted.numpy())


class TestDistilled:
    """The tiny config's RDED sets, against the scores they were chosen by."""

    def images(self, plan, tiny, planned, make_all, ipc, **changes):
        tiny["methods"]["rded"] |= {"encoding": "png", **changes}
        views = {"patches_per_side": changes.get("patches_per_side", 1)}
        tiny["labels"]["hard"] = {"kind": "hard", "views": views}
        tiny["experiments"]["x"] |= {"methods": ["rded"], "ipc": ipc, "protocols": ["hard"]}
        wanted = planned(tiny)
        wanted.families["students"].clear()
        make_all(wanted)
        sets = wanted.single["distilled"].values()
        return wanted, {
            a.keys["ipc"]: store.read_table(a.directory / "images.parquet").to_pylist()
            for a in sets
        }

    def ranked(self, wanted, class_id):
        (family,) = wanted.families["patch_scores"].values()
        path = family.artifact.at(class_id=class_id).directory / "scores.parquet"
        rows = store.read_table(path).to_pylist()
        best = [
            max((r for r in rows if r["image_id"] == name), key=lambda r: r["score"])
            for name in {r["image_id"] for r in rows}
        ]
        fields = ("image_id", "top", "left", "height", "width")
        best.sort(key=lambda r: -r["score"])
        return [{name: row[name] for name in fields} for row in best]

    def original(self, wanted, patch, class_id):
        (family,) = wanted.families["images"].values()
        path = family.artifact.at(class_id=class_id).directory / "images.parquet"
        rows = {r["image_id"]: r["image"]["bytes"] for r in store.read_table(path).to_pylist()}
        image = torch.from_numpy(decode(rows[patch["image_id"]]).copy()).float()
        return image, [patch[name] for name in ("top", "left", "height", "width")]

    def test_whole_crops_are_the_best_ranked_and_nested(self, made, tiny, planned, make_all):
        wanted, sets = self.images(made, tiny, planned, make_all, [1, 3, 5])
        for class_id in "012":
            ranked = self.ranked(wanted, class_id)
            for ipc, rows in sets.items():
                rows = [row for row in rows if row["class_id"] == class_id]
                assert [row["origin"] for row in rows] == [[patch] for patch in ranked[:ipc]]
                assert [row["index"] for row in rows] == list(range(ipc))
        bytes_of = {
            ipc: {(row["label"], row["index"]): row["image"]["bytes"] for row in rows}
            for ipc, rows in sets.items()
        }
        assert bytes_of[1].items() < bytes_of[3].items() < bytes_of[5].items()

    def test_pixels_are_the_crops_cut_off(self, made, tiny, planned, make_all):
        wanted, sets = self.images(made, tiny, planned, make_all, [3])
        for row in sets[3]:
            image, box = self.original(wanted, row["origin"][0], row["class_id"])
            crop = functional.resized_crop(image, *box, [8, 8], antialias=True)
            found = torch.from_numpy(decode(row["image"]["bytes"]).copy()).float()
            # Truncated, but for what float arithmetic leaves of whole numbers.
            rest = crop - found
            assert rest.min() > -2e-3
            assert rest.max() < 1

    @pytest.mark.parametrize("assignment", ["rank_blocks", "random"])
    def test_images_of_four_patches(self, made, tiny, planned, make_all, assignment):
        changes = {"patches_per_side": 2, "assignment": assignment, "rounding": "nearest"}
        wanted, sets = self.images(made, tiny, planned, make_all, [2], **changes)
        for class_id in "012":
            rows = [row for row in sets[2] if row["class_id"] == class_id]
            ranked = self.ranked(wanted, class_id)[:8]
            places = [[ranked.index(patch) for patch in row["origin"]] for row in rows]
            if assignment == "rank_blocks":
                assert places == [[0, 2, 4, 6], [1, 3, 5, 7]]
            else:
                assert sorted(places[0] + places[1]) == list(range(8))
            for row in rows:
                whole = torch.from_numpy(decode(row["image"]["bytes"]).copy()).float()
                quadrants = [whole[:, :4, :4], whole[:, :4, 4:], whole[:, 4:, :4], whole[:, 4:, 4:]]
                for patch, found in zip(row["origin"], quadrants, strict=True):
                    image, box = self.original(wanted, patch, class_id)
                    crop = functional.resized_crop(image, *box, [4, 4], antialias=True)
                    assert (crop - found).abs().max() < 0.502

    def test_smaller_sets_take_the_best_of_the_same_ranking(self, made, tiny, planned, make_all):
        _, sets = self.images(made, tiny, planned, make_all, [1, 2, 3], patches_per_side=2)
        used = {
            ipc: {(row["label"], str(patch)) for row in rows for patch in row["origin"]}
            for ipc, rows in sets.items()
        }
        assert used[1] < used[2] < used[3]
        assert [len(used[ipc]) for ipc in (1, 2, 3)] == [12, 24, 36]
