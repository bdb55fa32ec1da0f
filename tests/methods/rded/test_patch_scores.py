import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import N_DRAWS, random_boxes
from stillhouse.data.codecs import decode
from stillhouse.methods.common.patches import SCORES_SCHEMA
from stillhouse.methods.rded.patch_scores import score_class
from stillhouse.networks import registry

functional = pytest.importorskip("torchvision.transforms.v2.functional")

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
    address = seed, class_id
    table = score_class(rows, net, label, RESOLUTION, settings(**changes), address, batch_size)
    assert table.schema.equals(SCORES_SCHEMA)
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
    actual = score(rows, net, patches_per_side=factor, scoring=scoring)
    assert [(row["image_id"], row["crop"]) for row in actual] == [
        (name, crop) for name, _ in rows for crop in range(4)
    ]
    data = dict(rows)
    side = RESOLUTION // factor
    wanted = [naive_score(data[row["image_id"]], row, net, side, scoring, 2) for row in actual]
    assert [row["score"] for row in actual] == pytest.approx(wanted, abs=1e-4)
    assert len({round(value, 3) for value in wanted}) > len(wanted) // 2


def test_crops_are_squares_addressed_by_image(net):
    rows = rows_of([(20, 16)] * 6)
    actual = score(rows, net)
    assert all(row["height"] == row["width"] for row in actual)
    for (name, _), crops in itertools.groupby(actual, lambda row: (row["image_id"], 0)):
        draws = generator(0, "crops", "cat", name).random((4, N_DRAWS))
        boxes = random_boxes(draws, 16, 20, (0.08, 1.0), ratio=(1, 1)).tolist()
        assert [[r["top"], r["left"], r["height"], r["width"]] for r in crops] == boxes
    # Fewer images, and more crops of each, do not change the others.
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
    reference, actual = score(rows, net), score(rows, net, batch_size=batch_size)
    values = [[row.pop("score") for row in scored] for scored in (reference, actual)]
    assert actual == reference
    assert values[1] == pytest.approx(values[0], abs=1e-4)
