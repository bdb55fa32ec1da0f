import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stillhouse.data import boxes as boxes_module
from stillhouse.data.boxes import (
    N_DRAWS,
    augmentation_boxes,
    centre_box,
    padded_boxes,
    random_boxes,
)


def torchvision_box(uniforms, height, width, scale, ratio):
    """torchvision's RandomResizedCrop.get_params, fed with given uniforms."""
    uniforms = iter(uniforms)
    area = height * width
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    tries = [(next(uniforms), next(uniforms)) for _ in range(10)]
    for first, second in tries:
        target_area = area * (scale[0] + (scale[1] - scale[0]) * first)
        aspect_ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * second)
        w = round(math.sqrt(target_area * aspect_ratio))
        h = round(math.sqrt(target_area / aspect_ratio))
        if 0 < w <= width and 0 < h <= height:
            # randint(0, n) of a uniform number
            i = int(next(uniforms) * (height - h + 1))
            j = int(next(uniforms) * (width - w + 1))
            return i, j, h, w
    in_ratio = float(width) / float(height)
    if in_ratio < min(ratio):
        w = width
        h = round(w / min(ratio))
    elif in_ratio > max(ratio):
        h = height
        w = round(h * max(ratio))
    else:
        w = width
        h = height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("height", "width", "area", "ratio"),
    [
        (32, 32, (0.08, 1.0), (3 / 4, 4 / 3)),
        (32, 32, (1.0, 1.0), (3 / 4, 4 / 3)),
        (375, 500, (0.08, 1.0), (1, 1)),
        (8, 8, (0.25, 1.0), (1, 1)),
        (224, 224, (0.5, 0.5), (3 / 4, 4 / 3)),
        (4, 300, (0.9, 1.0), (3 / 4, 4 / 3)),
        (300, 4, (0.9, 1.0), (3 / 4, 4 / 3)),
        (9, 10, (0.97, 1.0), (1, 1)),
        (1, 1, (0.08, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_boxes_are_those_of_torchvision(height, width, area, ratio):
    draws = np.random.default_rng(0).random((500, N_DRAWS))
    expected = [torchvision_box(row, height, width, area, ratio) for row in draws]
    boxes = random_boxes(draws, height, width, area, ratio)
    assert boxes.dtype == np.int64
    np.testing.assert_array_equal(boxes, expected)


def test_boxes_are_distributed_as_those_of_torchvision():
    torchvision = pytest.importorskip("torchvision.transforms")
    import torch

    image = torch.empty(3, 20, 30)
    theirs = [
        torchvision.RandomResizedCrop.get_params(image, [0.2, 0.9], [0.75, 4 / 3])
        for _ in range(1500)
    ]
    ours = random_boxes(np.random.default_rng(1).random((20000, N_DRAWS)), 20, 30, (0.2, 0.9))
    assert np.abs(np.mean(theirs, axis=0) - ours.mean(0)).max() < 0.5
    assert np.abs(np.std(theirs, axis=0) - ours.std(0)).max() < 0.5


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(4, 300, (0, 147, 4, 5)), (300, 4, (147, 0, 5, 4)), (4, 5, (0, 0, 4, 5))],
)
def test_the_fallback_is_the_largest_centred_box(height, width, expected):
    # Areas of the complete image at ratios that never fit.
    draws = np.ones((1, N_DRAWS)) * 0.999999
    draws[0, 1:20:2] = 0.0
    assert random_boxes(draws, height, width, (1.0, 1.0))[0].tolist() == list(expected)


@settings(max_examples=60)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.floats(0.01, 1.0),
    st.integers(0, 2**32),
    st.integers(1, 5),
)
def test_boxes_lie_inside_and_depend_on_their_own_draws(height, width, smallest, seed, n):
    draws = np.random.default_rng(seed).random((n + 3, N_DRAWS))
    boxes = random_boxes(draws, height, width, (smallest, 1.0))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= [height, width]).all()
    np.testing.assert_array_equal(
        random_boxes(draws[:n], height, width, (smallest, 1.0)), boxes[:n]
    )


def test_the_last_pixel_can_be_reached():
    draws = np.full((1, N_DRAWS), np.nextafter(1.0, 0.0))
    draws[0, :20] = 0.5
    top, left, height, width = random_boxes(draws, 10, 10, (0.25, 0.25))[0]
    assert (top + height, left + width) == (10, 10)


@pytest.mark.parametrize(
    ("height", "width", "share", "expected"),
    [
        (256, 256, 1.0, (0, 0, 256, 256)),
        (256, 341, 224 / 256, (16, 58, 224, 224)),
        (5, 3, 1.0, (1, 0, 3, 3)),
        (3, 3, 0.01, (1, 1, 1, 1)),
    ],
)
def test_centre_box(height, width, share, expected):
    assert centre_box(height, width, share).tolist() == list(expected)


@pytest.mark.parametrize(
    ("resolution", "size", "box"),
    [
        (224, (256, 256), (16, 16, 224, 224)),
        (224, (512, 512), (32, 32, 448, 448)),
        (64, (64, 64), (3, 3, 57, 57)),
        (32, (32, 32), (0, 0, 32, 32)),
        (8, (8, 8), (0, 0, 8, 8)),
        (16, (8, 8), (0, 0, 8, 8)),
        (4, (4, 4), (0, 0, 4, 4)),
        (224, (256, 300), (16, 38, 224, 224)),
    ],
)
def test_crop_for_testing_is_that_of_rdeds_code(resolution, size, box):
    assert tuple(boxes_module.test_crop_box(*size, resolution).tolist()) == box


def test_padded_boxes_are_all_positions_of_a_crop_in_the_padded_image():
    draws = np.random.default_rng(0).random((4000, N_DRAWS))
    boxes = padded_boxes(draws, 9, 2)
    assert (boxes[:, 2:] == 9).all() and boxes.dtype == np.int64
    positions, counts = np.unique(boxes[:, :2], axis=0, return_counts=True)
    assert positions.tolist() == [[top, left] for top in range(-2, 3) for left in range(-2, 3)]
    assert abs(counts - 160).max() < 5 * 160**0.5
    # A box depends on the last two numbers of its row alone.
    assert (padded_boxes(draws[7:9, -2:], 9, 2) == boxes[7:9]).all()


def test_settings_with_pad_have_padded_boxes():
    draws, area = np.random.default_rng(0).random((20, N_DRAWS)), {"crop": [0.3, 0.8]}
    cropped, padded = random_boxes(draws, 9, 9, [0.3, 0.8]), padded_boxes(draws, 9, 3)
    for chosen, wanted in (
        (area, cropped),
        ({**area, "pad": 0}, cropped),
        ({**area, "pad": 3}, padded),
        ({"pad": 3}, padded),
    ):
        assert (augmentation_boxes(draws, 9, chosen) == wanted).all()
