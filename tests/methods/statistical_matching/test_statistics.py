from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.jobs import produce
from stillhouse.artifacts.rng import generator
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import normalise
from stillhouse.methods.statistical_matching import statistics
from stillhouse.methods.statistical_matching.feature_statistics import KINDS, StatisticsRecorder
from stillhouse.methods.statistical_matching.method import STATISTICS
from stillhouse.methods.statistical_matching.statistics import (
    overall,
    read_statistics,
    sum_statistics,
    summary,
    training_views,
)
from stillhouse.networks import registry
from stillhouse.training.teachers import load_teacher
from torch.nn.functional import interpolate, unfold

CPU = torch.device("cpu")
CLASSES = ["0", "1", "2"]
VIEWS = {"pad": 1, "crop": [1.0, 1.0], "flip": 0.5, "seed": 0}
# A tile that divides the first map, 8 px, and not the second one, 4 px.
TILE = 3
TEACHER = {"arch": "convnet2", "width": 4, "norm": "batch", "classes": CLASSES, "resolution": 8}
(FILE,) = STATISTICS.files


@pytest.fixture
def teacher(empty):
    """Write a teacher with its initial weights; return its file."""
    net = registry.build(TEACHER, len(CLASSES), 8, 0, "teacher")
    spec = {"stage": "teacher", "settings": TEACHER, "address": "results/teacher/t"}
    store.write(spec["address"], spec, {"model.safetensors": net.state_dict()})
    return Path(spec["address"]) / "model.safetensors"


@pytest.fixture
def make(teacher, class_images):
    """Return a function that computes statistics at an address and returns their file."""

    def make(label="x", classes=CLASSES, views=VIEWS, tile=TILE, **resources):
        settings = {"classes": list(classes), "views": views, "tile": tile}
        spec = {"stage": "statistics", "settings": settings, "keys": {}}
        spec["address"] = f"results/statistics/{label}"
        inputs = {"images": class_images, "teacher": teacher}
        produce(STATISTICS, inputs, spec, (), resources)
        return Path(spec["address"]) / FILE

    return make


def inputs_of_layers(net, pixels):
    """Return {part's name: (n, channels or tiles, numbers)} of all images at once, in float64."""
    actual, handles = {}, []

    def keep(kind, name):
        def hook(module, inputs):
            maps = inputs[0].double()
            actual[f"{kind}.{name}.channel"] = maps.flatten(2)
            if kind == "convolution":
                sides = [-(-side // TILE) * TILE for side in maps.shape[2:]]
                enlarged = interpolate(maps, sides, mode="bilinear", align_corners=False)
                tiles = unfold(enlarged, TILE, stride=TILE).transpose(1, 2)
                actual[f"{kind}.{name}.tile"] = tiles

        return hook

    for name, module in net.named_modules():
        if type(module) in KINDS:
            handles.append(module.register_forward_pre_hook(keep(KINDS[type(module)], name)))
    with torch.no_grad():
        net(normalise(pixels))
    for handle in handles:
        handle.remove()
    return actual


def views_at_once(images, settings, class_id, batch_size=4):
    """Return all views at once."""
    return torch.cat(list(training_views(images, settings, class_id, batch_size, CPU)))


def views_of(images, class_id):
    pixels, _ = load_split(images, [class_id], 8, "train")
    return views_at_once(pixels, VIEWS, class_id)


def test_statistics_are_those_of_two_passes_over_all_images(make, teacher, class_images):
    net = load_teacher(teacher, CPU).net
    actual = store.read_tensors(make())
    by_class = [inputs_of_layers(net, views_of(class_images, c)) for c in CLASSES]
    # As many as the classes have, whose numbers differ.
    counts = [len(load_split(class_images, [c], 8, "train")[0]) for c in CLASSES]
    assert actual["count"].tolist() == counts and len(set(counts)) > 1
    parts = set(by_class[0])
    names = {f"{part}.{of}" for part in parts for of in ("mean", "within", "between")}
    assert actual.keys() == {"count", *names}
    assert {part.split(".")[0] for part in parts} == {"convolution", "batchnorm"}
    count = actual["count"].double()
    for part in parts:
        for row, values_of in enumerate(by_class):
            values = values_of[part]
            of_image = values.mean(2)
            for name, wanted in (
                ("mean", values.mean((0, 2))),
                ("within", values.var(2, correction=0).mean(0)),
                ("between", of_image.var(0, correction=0)),
            ):
                mine = actual[f"{part}.{name}"]
                assert mine.dtype == torch.float32 and mine.shape == (3, values.shape[1])
                torch.testing.assert_close(mine[row].double(), wanted, rtol=1e-4, atol=1e-6)
        together = torch.cat([values_of[part] for values_of in by_class])
        mean, within, between = (
            actual[f"{part}.{of}"].double() for of in ("mean", "within", "between")
        )
        centre, variance = overall(mean, within + between, count)
        torch.testing.assert_close(centre, together.mean((0, 2)), rtol=1e-4, atol=1e-6)
        wanted = together.var((0, 2), correction=0)
        torch.testing.assert_close(variance, wanted, rtol=1e-4, atol=1e-6)


def test_results_do_not_depend_on_the_batch_size(make):
    wanted = store.read_tensors(make(batch_size=64))
    for size in (7, 1000):
        actual = store.read_tensors(make(f"b{size}", batch_size=size))
        assert actual.keys() == wanted.keys()
        for name, tensor in wanted.items():
            torch.testing.assert_close(actual[name], tensor, rtol=1e-5, atol=1e-7)


def test_results_do_not_depend_on_other_classes_or_their_order(make):
    wanted = read_statistics(make(), CLASSES)
    for order in (["2", "0", "1"], ["2", "0"]):
        path = make("".join(order), order)
        actual = store.read_tensors(path)
        for name, tensor in wanted.items():
            rows = [CLASSES.index(class_id) for class_id in order]
            assert torch.equal(actual[name].double(), tensor[rows])
        # By class id, for any order in the file.
        selected = read_statistics(path, ["0", "2"])
        assert all(torch.equal(selected[name], wanted[name][[0, 2]]) for name in wanted)
        assert {tensor.dtype for tensor in selected.values()} == {torch.float64}


def test_an_interrupted_pass_resumes_after_a_class(make, interrupt):
    wanted = make("undisturbed").read_bytes()
    calls = interrupt(statistics, "sum_statistics", 3)
    with pytest.raises(KeyboardInterrupt):
        make("interrupted", checkpoint_seconds=0)
    assert len(calls) == 3 and not Path("results/statistics/interrupted", FILE).exists()
    actual = make("interrupted", checkpoint_seconds=0)
    assert len(calls) == 4
    assert actual.read_bytes() == wanted


def test_equal_images_have_no_variance_between_them(teacher):
    net = load_teacher(teacher, CPU).net
    image = torch.from_numpy(generator(0, "test").random((1, 3, 8, 8)) * 255)
    views = image.float().repeat(50, 1, 1, 1).split(20)
    sums = sum_statistics(StatisticsRecorder(net, set(KINDS.values()), TILE), views)
    actual = summary({name: value[None] for name, value in sums.items()})
    for name, tensor in actual.items():
        if name.endswith(".between"):
            mean = actual[name.replace("between", "mean")]
            assert (tensor >= 0).all() and (tensor <= 1e-9 * (1 + mean.square())).all()


def pixels_of(n, size=6, seed=0):
    return torch.from_numpy(generator(seed, "test").integers(0, 256, (n, 3, size, size), np.uint8))


def test_a_padded_view_is_a_square_of_a_black_border_and_the_image():
    images, settings = pixels_of(300), {"pad": 2, "crop": [0.5, 1.0], "flip": 0.5, "seed": 3}
    actual = views_at_once(images, settings, "cat")
    assert actual.shape == (300, 3, 6, 6) and actual.dtype == torch.float32
    corners, mirrored = set(), []
    for image, view in zip(images.numpy(), actual.round().to(torch.uint8).numpy(), strict=True):
        bordered = np.zeros((3, 10, 10), np.uint8)
        bordered[:, 2:8, 2:8] = image
        places = {
            (top, left, flip): bordered[:, top : top + 6, left : left + 6][:, :, :: 1 - 2 * flip]
            for top in range(5)
            for left in range(5)
            for flip in (0, 1)
        }
        ((top, left, flip),) = [k for k, square in places.items() if np.array_equal(square, view)]
        corners.add((top, left))
        mirrored.append(flip)
    assert len(corners) == 25
    assert 110 < sum(mirrored) < 190


@pytest.mark.parametrize("flip", [0, 1])
def test_without_border_and_crop_a_view_is_the_image(flip):
    images = pixels_of(5)
    actual = views_at_once(images, {"pad": 0, "crop": [1.0, 1.0], "flip": flip, "seed": 0}, "cat")
    wanted = images.flip(3) if flip else images
    torch.testing.assert_close(actual, wanted.float(), rtol=0, atol=1e-4)


def test_a_crop_shows_a_part_of_the_image_enlarged():
    ramp = torch.arange(24, dtype=torch.uint8).expand(200, 3, 24, 24) * 10
    actual = views_at_once(ramp, {"pad": 0, "crop": [0.25, 0.25], "flip": 0.0, "seed": 0}, "cat")
    # 10 grey levels per pixel and half of the side, times √ of the aspect: √(3/4) to √(4/3).
    slopes = (actual[:, 0, 12, 16] - actual[:, 0, 12, 8]) / 8
    assert 4 < slopes.min() < 4.8 and 5.2 < slopes.max() < 6
    assert actual[:, 0, :, 0].min() < 20 and actual[:, 0, :, -1].max() > 210


@pytest.mark.parametrize("pad", [0, 2])
def test_a_view_belongs_to_seed_class_and_item(pad):
    images = pixels_of(600)
    settings = {"pad": pad, "crop": [0.3, 1.0], "flip": 0.5, "seed": 0}
    wanted = views_at_once(images, settings, "cat")
    assert torch.equal(views_at_once(images[:9], settings, "cat"), wanted[:9])
    for changed, class_id in ((settings, "dog"), ({**settings, "seed": 1}, "cat")):
        same = (views_at_once(images, changed, class_id) == wanted).flatten(1).all(1)
        assert same.float().mean() < 0.1
