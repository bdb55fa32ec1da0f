import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stillhouse.data.transforms import (
    cut,
    normalise,
    normalised_to_bytes,
    pad,
    pixels_to_bytes,
    to_unit,
    unit_to_bytes,
)

functional = pytest.importorskip("torchvision.transforms.v2.functional")


def images(n=4, height=20, width=26, seed=0):
    numbers = np.random.default_rng(seed).integers(0, 256, (n, 3, height, width), np.uint8)
    return torch.from_numpy(numbers)


def expected(image, box, size):
    """torchvision's crop and antialiased resize, in floats."""
    return functional.resized_crop(image.float(), *map(int, box), [size, size], antialias=True)


@settings(max_examples=80)
@given(st.data())
def test_cut_is_torchvisions_resized_crop(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    tall, wide = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    box, size = (top, left, tall, wide), data.draw(st.integers(1, 48))
    batch = images(2, height, width, data.draw(st.integers(0, 99)))
    actual = cut(batch, torch.tensor([box] * 2), size)
    wanted = torch.stack([expected(image, box, size) for image in batch])
    assert actual.dtype == torch.float32
    assert (actual - wanted).abs().max() < 1e-3


def test_every_row_has_its_own_box_and_flip():
    batch, flip = images(), torch.tensor([True, False, True, False])
    boxes = torch.tensor([[0, 0, 20, 26], [3, 4, 5, 6], [10, 0, 10, 26], [19, 25, 1, 1]])
    actual = cut(batch, boxes, 16, flip)
    for row in range(4):
        wanted = expected(batch[row], boxes[row], 16)
        wanted = torch.flip(wanted, [-1]) if flip[row] else wanted
        assert (actual[row] - wanted).abs().max() < 1e-3


@settings(max_examples=40)
@given(st.integers(-5, 5), st.integers(-5, 5), st.booleans())
def test_pixels_beyond_the_image_are_black(top, left, mirrored):
    batch = images(1, 8, 8)
    padded = torch.nn.functional.pad(batch, (5,) * 4).float()
    wanted = padded[:, :, 5 + top : 13 + top, 5 + left : 13 + left]
    wanted = wanted.flip(3) if mirrored else wanted
    actual = cut(batch, torch.tensor([[top, left, 8, 8]]), 8, torch.tensor([mirrored]))
    assert torch.equal(actual, wanted)


def test_a_box_of_all_pixels_at_its_own_size_changes_none():
    batch = images(3, 8, 8)
    boxes = torch.tensor([[0, 0, 8, 8]] * 3)
    assert torch.equal(cut(batch, boxes, 8), batch.float())


def shuffled(image, columns, rows):
    """Move strip order[i] of the image to strip i; columns first, then rows."""
    strips = image.chunk(len(columns), dim=2)
    image = torch.cat([strips[i] for i in columns], dim=2)
    strips = image.chunk(len(rows), dim=1)
    return torch.cat([strips[i] for i in rows], dim=1)


@pytest.mark.parametrize("factor", [2, 3])
def test_patches_are_permuted_before_the_cut(factor):
    orders = [a + b for a, b in itertools.product(itertools.permutations(range(factor)), repeat=2)]
    batch = images(len(orders), 12, 18)
    rng = np.random.default_rng(3)
    corners = np.stack([rng.integers(0, 5, len(orders)), rng.integers(0, 7, len(orders))], 1)
    boxes = torch.from_numpy(np.concatenate([corners, np.full((len(orders), 2), 7)], 1))
    flip = torch.from_numpy(rng.random(len(orders)) < 0.5)
    actual = cut(batch, boxes, 10, flip, torch.tensor(orders))
    for row, order in enumerate(orders):
        image = shuffled(batch[row], order[:factor], order[factor:])
        wanted = expected(image, boxes[row], 10)
        wanted = torch.flip(wanted, [-1]) if flip[row] else wanted
        assert (actual[row] - wanted).abs().max() < 1e-3


def test_normalise_is_torchvisions():
    batch = images(2)
    wanted = functional.normalize(
        functional.to_dtype(batch, torch.float32, scale=True),
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    )
    actual = normalise(batch)
    assert actual.dtype == torch.float32
    assert (actual - wanted).abs().max() < 1e-5
    assert (normalise(batch.float()) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(("side", "size", "before"), [(4, 8, 2), (3, 8, 2), (5, 5, 0), (1, 4, 1)])
def test_pad_puts_zeros_around(side, size, before):
    wanted = torch.zeros(2, 3, size, size)
    inner = torch.rand(2, 3, side, side) + 1
    wanted[:, :, before : before + side, before : before + side] = inner
    assert torch.equal(pad(inner, size), wanted)


def test_unit_range_is_minus_one_to_one():
    actual = to_unit(torch.tensor([0, 255, 51], dtype=torch.uint8))
    assert actual.dtype == torch.float32
    assert actual.tolist() == pytest.approx([-1, 1, -0.6])


def test_unit_range_covers_all_bytes():
    images = torch.tensor([-1.0, 1.0, 0.0, 0.5 / 127.5 - 1.001]).view(1, 1, 2, 2)
    assert unit_to_bytes(images).ravel().tolist() == [0, 255, 128, 0]


def test_pixels_are_truncated_or_rounded():
    pixels = torch.tensor([-3.0, 0.0, 0.4, 1.5, 1.9, 2.5, 254.6, 254.99999, 255.0, 260.0])
    truncated = [0, 0, 0, 1, 1, 2, 254, 255, 255, 255]
    rounded = [0, 0, 0, 2, 2, 2, 255, 255, 255, 255]
    assert pixels_to_bytes(pixels, "truncate").tolist() == truncated
    assert pixels_to_bytes(pixels, "nearest").tolist() == rounded
    assert pixels_to_bytes(pixels, "nearest").dtype == np.uint8


def test_normalised_bytes_are_restored():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    assert np.array_equal(normalised_to_bytes(normalise(pixels)), pixels.numpy())
    nearly = normalise(pixels.float() + 0.4), normalise(pixels.float() - 0.4)
    assert all(np.array_equal(normalised_to_bytes(images), pixels.numpy()) for images in nearly)
    extremes = torch.tensor([-9.0, 9.0]).reshape(1, 1, 1, 2).repeat(1, 3, 1, 1)
    assert normalised_to_bytes(extremes).ravel()[:2].tolist() == [0, 255]
