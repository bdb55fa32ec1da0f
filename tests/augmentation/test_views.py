import dataclasses

import numpy as np
import pytest
import torch
from stillhouse.artifacts.rng import generator
from stillhouse.augmentation.ops import NAMES, OPERATIONS
from stillhouse.augmentation.views import GENERATOR, MAX_SIDE, Views, draw, render
from stillhouse.data.boxes import N_DRAWS

functional = pytest.importorskip("torchvision.transforms.v2.functional")

SIDE = 16
WIDTH = N_DRAWS + 6 + 2 * MAX_SIDE
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def settings(**changes):
    return {
        "crop": [0.3, 1.0],
        "flip": 0.5,
        "patches_per_side": 2,
        "mix": "cutmix",
        "mix_alpha": 1.0,
        "mix_per": "batch",
        **changes,
    }


def views_of(n=20, epoch=0, seed=0, batch_size=8, **changes):
    return draw(settings(**changes), seed, epoch, n, SIDE, batch_size)


def by_row(views):
    """Return the parameters that depend on each row's own draws, by row of the distilled set."""
    columns = (views.index, views.box, views.flip, views.patch_order)
    return {
        int(i): (box.tolist(), bool(flip), order.tolist())
        for i, box, flip, order in zip(*columns, strict=True)
    }


def arrays(views):
    return [np.asarray(value) for value in list(vars(views).values())[1:]]


def test_the_same_address_gives_the_same_views():
    for first, other in zip(arrays(views_of()), arrays(views_of()), strict=True):
        np.testing.assert_array_equal(first, other)
    for changes in ({"seed": 1}, {"epoch": 1}):
        assert by_row(views_of(**changes)) != by_row(views_of())


def test_every_row_has_one_view_per_epoch_in_a_new_order():
    orders = [views_of(epoch=epoch).index for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_a_view_does_not_depend_on_the_number_of_rows():
    small, large = by_row(views_of(n=20)), by_row(views_of(n=50))
    assert small == {row: large[row] for row in range(20)}


def test_a_view_depends_on_its_address_alone():
    wanted = by_row(views_of())
    assert by_row(views_of(batch_size=3)) == wanted
    for changes in ({"mix": "none"}, {"mix": "mixup"}, {"mix_per": "row"}, {"mix_alpha": 0.2}):
        assert by_row(views_of(**changes)) == wanted


def test_the_order_is_independent_of_the_views():
    actual = views_of(n=2000)
    for column in (actual.index, actual.flip, actual.box[:, 2], actual.patch_order[:, 0]):
        assert abs(np.corrcoef(np.arange(2000), column)[0, 1]) < 0.1


def test_crops_flips_and_orders_are_spread():
    actual = views_of(n=4000, crop=[0.25, 1.0], flip=0.3)
    assert abs(actual.flip.mean() - 0.3) < 0.03
    areas = actual.box[:, 2] * actual.box[:, 3] / SIDE**2
    assert areas.min() > 0.2
    assert abs(np.median(areas) - 0.58) < 0.05
    orders, counts = np.unique(actual.patch_order, axis=0, return_counts=True)
    assert orders.tolist() == [[0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0]]
    assert (np.abs(counts - 1000) < 120).all()
    assert not views_of(flip=0.0).flip.any()
    assert views_of(flip=1.0).flip.all()


def test_without_shuffling_there_is_no_order():
    assert views_of(patches_per_side=1).patch_order.shape == (20, 0)
    assert views_of(patches_per_side=8).patch_order.shape == (20, 16)


def test_without_mixing_there_is_no_partner():
    actual = views_of(mix="none")
    assert actual.partner.tolist() == [-1] * 20
    assert actual.mix_weight.tolist() == [1.0] * 20
    assert not actual.mix_box.any()


def rand_bbox(size, lam, cx, cy):
    """rand_bbox of RDED's validation/utils.py (as in the CutMix repository), on given numbers."""
    cut_rat = np.sqrt(1.0 - lam)
    cut_w = int(size * cut_rat)
    cut_h = int(size * cut_rat)
    bbx1 = np.clip(cx - cut_w // 2, 0, size)
    bby1 = np.clip(cy - cut_h // 2, 0, size)
    bbx2 = np.clip(cx + cut_w // 2, 0, size)
    bby2 = np.clip(cy + cut_h // 2, 0, size)
    return bbx1, bby1, bbx2, bby2


@pytest.mark.parametrize("epoch", range(6))
def test_cutmix_boxes_are_those_of_the_official_code(epoch):
    actual = views_of(n=40, epoch=epoch, batch_size=8)
    numbers = generator(0, "views, mixes", item=epoch).random((5, 3))
    for batch, (lam, y, x) in enumerate(numbers):
        x1, y1, x2, y2 = rand_bbox(SIDE, lam, int(x * SIDE), int(y * SIDE))
        rows = slice(8 * batch, 8 * batch + 8)
        assert actual.mix_box[rows].tolist() == [[y1, x1, y2 - y1, x2 - x1]] * 8
        # "adjust lambda to exactly match pixel ratio"
        weight = 1 - (x2 - x1) * (y2 - y1) / SIDE**2
        assert actual.mix_weight[rows].tolist() == pytest.approx([weight] * 8)


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_mixing_stays_in_the_batch(mix):
    actual = views_of(n=21, batch_size=8, mix=mix)
    for first in (0, 8, 16):
        rows = list(range(first, min(first + 8, 21)))
        assert sorted(actual.partner[rows].tolist()) == rows
        assert len({float(weight) for weight in actual.mix_weight[rows]}) == 1
    assert len({float(weight) for weight in actual.mix_weight}) == 3
    assert actual.partner.tolist() != list(range(21))


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_mixing_per_row_draws_weights_per_row(mix):
    actual = views_of(n=400, batch_size=8, mix=mix, mix_per="row")
    assert ((actual.partner >= 0) & (actual.partner < 400)).all()
    assert len(np.unique(actual.partner)) > 200
    assert (np.abs(actual.partner - np.arange(400)) > 8).mean() > 0.8
    assert len(np.unique(actual.mix_weight)) > (40 if mix == "cutmix" else 395)
    # A row's numbers do not depend on the number of rows.
    fewer = views_of(n=100, batch_size=8, mix=mix, mix_per="row")
    where = {int(row): place for place, row in enumerate(actual.index)}
    for place, row in enumerate(fewer.index):
        assert fewer.mix_weight[place] == actual.mix_weight[where[int(row)]]
        assert fewer.mix_box[place].tolist() == actual.mix_box[where[int(row)]].tolist()


def test_cutmix_weights_are_the_remaining_area():
    actual = views_of(n=200, mix_per="row")
    numbers = generator(0, "views", item=0).random((200, WIDTH))
    numbers = numbers[actual.index]
    for place in range(200):
        _, lam, y, x = numbers[place, 2:6]
        x1, y1, x2, y2 = rand_bbox(SIDE, lam, int(x * SIDE), int(y * SIDE))
        assert actual.mix_box[place].tolist() == [y1, x1, y2 - y1, x2 - x1]
        inside = np.zeros((SIDE, SIDE), bool)
        inside[y1:y2, x1:x2] = True
        assert actual.mix_weight[place] == pytest.approx(1 - inside.mean())


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
def test_mixup_weights_of_batches_are_quantiles(alpha):
    stats = pytest.importorskip("scipy.stats")
    actual = views_of(n=40, mix="mixup", mix_alpha=alpha).mix_weight
    numbers = generator(0, "views, mixes", item=0).random((5, 3))[:, 0]
    wanted = np.repeat(stats.beta(alpha, alpha).ppf(numbers), 8)
    assert actual.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_mixup_weights_are_beta_distributed(alpha):
    weights = views_of(n=20000, mix="mixup", mix_per="row", mix_alpha=alpha).mix_weight
    assert weights.mean() == pytest.approx(0.5, abs=0.02)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)
    # Below one, the mass is at the ends: P(w < 1/4), by the symmetry of the density.
    share = {0.2: 0.42, 0.8: 0.28, 1.0: 0.25, 4.0: 0.07}[alpha]
    assert (weights < 0.25).mean() == pytest.approx(share, abs=0.02)


def images(n=20):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (n, 3, SIDE, SIDE), np.uint8))


def naive_view(image, views, place):
    """Augment, shuffle, crop, flip one row with torchvision."""
    augment = pytest.importorskip("torchvision.transforms.autoaugment")
    for op, magnitude in zip(views.op[place], views.magnitude[place], strict=True):
        nearest = augment.InterpolationMode.NEAREST
        image = augment._apply_op(image, NAMES[op], float(magnitude), nearest, None)
    order = views.patch_order[place].tolist()
    columns, rows = order[: len(order) // 2], order[len(order) // 2 :]
    if order:
        strips = image.chunk(len(columns), dim=2)
        image = torch.cat([strips[i] for i in columns], dim=2)
        strips = image.chunk(len(rows), dim=1)
        image = torch.cat([strips[i] for i in rows], dim=1)
    image = functional.to_dtype(image, torch.float32, scale=True)
    box = views.box[place].tolist()
    image = functional.resized_crop(image, *box, [SIDE, SIDE], antialias=True)
    return functional.horizontal_flip(image) if views.flip[place] else image


def naive_render(images, views, place):
    image = naive_view(images[int(views.index[place])], views, place)
    if views.mix != "none":
        partner = int(views.partner[place])
        other = naive_view(images[int(views.index[partner])], views, partner)
        weight = float(views.mix_weight[place])
        if views.mix == "mixup":
            image = weight * image + (1 - weight) * other
        else:
            top, left, height, width = views.mix_box[place].tolist()
            image = image.clone()
            image[:, top : top + height, left : left + width] = other[
                :, top : top + height, left : left + width
            ]
    return functional.normalize(image, MEAN, STD)


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
@pytest.mark.parametrize("mix_per", ["batch", "row"])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_render_is_torchvision_row_by_row(mix, mix_per, factor):
    views = views_of(mix=mix, mix_per=mix_per, patches_per_side=factor)
    pixels = images()
    wanted = torch.stack([naive_render(pixels, views, place) for place in range(20)])
    tensors = views.to("cpu")
    for step in (20, 8):
        parts = [render(pixels, tensors, i, min(i + step, 20)) for i in range(0, 20, step)]
        actual = torch.cat(parts)
        assert actual.dtype == torch.float32
        assert (actual - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("mix", ["none", "cutmix"])
@pytest.mark.parametrize("mix_per", ["batch", "row"])
def test_render_augments_before_it_crops(mix, mix_per):
    views = views_of(mix=mix, mix_per=mix_per, randaugment={"n": 2, "m": 9})
    assert views.op.shape == (20, 2)
    pixels = images()
    pixels = pixels // 4 + pixels.float().mean((2, 3), keepdim=True).byte()
    wanted = torch.stack([naive_render(pixels, views, place) for place in range(20)])
    actual = render(pixels, views.to("cpu"), 0, 20)
    # Levels and neighbours may be rounded differently, rarely.
    assert ((actual - wanted).abs() < 0.1).float().mean() > 0.97
    plain = render(pixels, views_of(mix=mix, mix_per=mix_per).to("cpu"), 0, 20)
    assert ((actual - plain).abs() > 0.1).float().mean() > 0.2
    parts = [render(pixels, views.to("cpu"), i, min(i + 8, 20)) for i in range(0, 20, 8)]
    assert torch.allclose(torch.cat(parts), actual, atol=1e-4)


@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
@pytest.mark.parametrize("mix_per", ["batch", "row"])
def test_render_changes_colours_after_the_crop_and_before_the_mix(mix, mix_per):
    views = views_of(mix=mix, mix_per=mix_per, jitter=0.4, lighting=0.1, patches_per_side=1)
    pixels = images()
    actual = render(pixels, views.to("cpu"), 0, 20)

    def colours(image, place):
        for op, magnitude in zip(views.op[place], views.magnitude[place], strict=True):
            operation = OPERATIONS[NAMES[op]][1]
            image = operation(image[None] * 255, torch.tensor([magnitude]))[0] / 255
        return image

    plain = Views(views.mix, *arrays(views)[:-2], views.op[:, :0], views.magnitude[:, :0])
    seen = [
        colours(naive_view(pixels[row], plain, i), i) for i, row in enumerate(views.index.tolist())
    ]
    for place in range(20):
        partner, wanted = int(views.partner[place]), seen[place]
        if mix == "mixup":
            wanted = torch.lerp(seen[partner], wanted, float(views.mix_weight[place]))
        if mix == "cutmix":
            top, left, height, width = views.mix_box[place].tolist()
            inside = torch.zeros(SIDE, SIDE, dtype=bool)
            inside[top : top + height, left : left + width] = True
            wanted = torch.where(inside, seen[partner], wanted)
        wanted = functional.normalize(wanted, MEAN, STD)
        assert (actual[place] - wanted).abs().max() < 1e-3


def test_siamese_operations_follow_the_normalisation():
    wanted = {"operations": ["color", "crop", "cutout"], "per": "row"}
    views = views_of(mix="none", siamese=wanted, batch_size=5).to("cpu")
    plain = render(images(), views_of(mix="none").to("cpu"), 0, 20)
    actual = torch.cat([render(images(), views, i, i + 5) for i in range(0, 20, 5)])
    for place in range(20):
        image = plain[place : place + 1]
        for op, magnitude in zip(views.op[place], views.magnitude[place], strict=True):
            image = OPERATIONS[NAMES[op]][1](image, magnitude[None])
        assert torch.allclose(actual[place], image[0], atol=1e-5)
    assert (actual != plain).any()


def test_augmentation_does_not_change_other_draws():
    plain, augmented = views_of(), views_of(randaugment={"n": 2, "m": 9})
    for name in ("index", "box", "flip", "patch_order", "partner", "mix_box", "mix_weight"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(augmented, name))


def test_all_fields_of_views_move_to_a_device():
    views = views_of()
    moved = views.to("cpu")
    assert isinstance(moved, Views)
    assert moved.mix == "cutmix"
    for array, tensor in zip(arrays(views), list(vars(moved).values())[1:], strict=True):
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_array_equal(array, tensor.numpy())


def test_the_views_of_an_address_do_not_change():
    actual = views_of(n=4, epoch=2, batch_size=2)
    assert actual.index.tolist() == [0, 1, 3, 2]
    assert actual.box.tolist() == [[1, 0, 12, 16], [2, 6, 12, 10], [0, 0, 15, 16], [1, 0, 14, 15]]
    assert actual.flip.tolist() == [True, True, True, True]
    assert actual.partner.tolist() == [0, 1, 2, 3]
    assert actual.mix_box.tolist() == [[0, 4, 7, 8], [0, 4, 7, 8], [0, 1, 10, 14], [0, 1, 10, 14]]


def test_padded_views_are_crops_of_a_bordered_image():
    pixels = images()
    drawn = views_of(pad=2, mix="none", patches_per_side=1)
    side = pixels.shape[-1]
    rendered = render(pixels, drawn.to("cpu"), 0, len(pixels))
    bordered = torch.nn.functional.pad(pixels, (2,) * 4).float()
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    tops = set()
    for place, index in enumerate(drawn.index):
        top, left = drawn.box[place, :2] + 2
        view = bordered[index, :, top : top + side, left : left + side]
        view = view.flip(2) if drawn.flip[place] else view
        torch.testing.assert_close(rendered[place], (view / 255 - mean) / std)
        tops.add(int(top))
    assert tops == {0, 1, 2, 3, 4}


def test_render_returns_all_rows_by_default_and_none_beyond_the_last():
    pixels, drawn = images(), views_of().to("cpu")
    complete = render(pixels, drawn)
    assert len(complete) == len(pixels)
    assert torch.equal(complete, render(pixels, drawn, 0, len(pixels) + 5))
    step = len(pixels) // 2
    halves = [render(pixels, drawn, 0, step), render(pixels, drawn, step, 2 * step)]
    assert torch.equal(complete[: 2 * step], torch.cat(halves))


BASE = {"crop": [0.3, 1.0], "flip": 0.5, "patches_per_side": 2}
# Recorded with NumPy 2.4 and SciPy 1.17.
CHECKSUMS = {
    "cutmix": ({**BASE, "mix": "cutmix", "mix_alpha": 1.0, "mix_per": "batch"}, "bd154bf0a2ad"),
    "cutmix per row": (
        {**BASE, "mix": "cutmix", "mix_alpha": 0.7, "mix_per": "row"},
        "7a3c1ef35f9d",
    ),
    "mixup": ({**BASE, "mix": "mixup", "mix_alpha": 0.8, "mix_per": "batch"}, "01a1a94902c5"),
    "pad": ({"pad": 2, "flip": 0.5, "patches_per_side": 1, "mix": "none"}, "d4f61b0e4909"),
    "randaugment": ({**BASE, "mix": "none", "randaugment": {"n": 2, "m": 9}}, "13eee5db4149"),
    "jitter": ({**BASE, "mix": "none", "jitter": 0.4}, "0654afe1f86d"),
    "lighting": ({**BASE, "mix": "none", "lighting": 0.1}, "e288125e3fd7"),
    "siamese": (
        {
            **{**BASE, "mix": "none"},
            "siamese": {"operations": ["color", "crop", "cutout", "scale"], "per": "row"},
        },
        "e193799f87b5",
    ),
}


@pytest.mark.parametrize("kind", CHECKSUMS)
def test_draws_are_those_of_the_generator_version(kind):
    settings, checksum = CHECKSUMS[kind]
    assert GENERATOR == 1, "record the checksums of the new version"
    actual = draw(settings, 3, 2, 40, 16, 8).checksum()
    assert actual[:12] == checksum, (
        "tables that store no views would be read with others; raise GENERATOR in "
        "augmentation/views.py and record the checksum"
    )


def test_the_checksum_of_views_covers_every_field():
    views = views_of(randaugment={"n": 1, "m": 9})
    checksums = {views.checksum(), dataclasses.replace(views, mix="mixup").checksum()}
    names = [field.name for field in dataclasses.fields(views)][1:]
    for name in names:
        array = getattr(views, name).copy()
        array.flat[0] = ~array.flat[0] if array.dtype == bool else array.flat[0] + 1
        checksums.add(dataclasses.replace(views, **{name: array}).checksum())
    assert len(checksums) == 2 + len(names)
