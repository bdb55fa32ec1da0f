import itertools

import numpy as np
import pytest
import torch
from stillhouse.artifacts.rng import generator
from stillhouse.methods.common import patches


def test_preselection_is_a_prefix_of_any_larger_one():
    rows = [(f"i{n:02d}", b"") for n in range(40)]
    shuffled = patches.preselect(rows, 1000, 0, "cat")
    assert sorted(shuffled) == rows
    assert shuffled != rows
    for count in (0, 1, 7, 40):
        assert patches.preselect(rows, count, 0, "cat") == shuffled[:count]
    assert patches.preselect(rows, 40, 1, "cat") != shuffled
    assert patches.preselect(rows, 40, 0, "dog") != shuffled


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
    actual = patches.rank_patches(table_of(SCORES), patches_per_image)
    assert [f"{row['image_id']}{row['crop']}" for row in actual] == expected.split()


def test_rank_blocks_put_the_best_patches_into_the_first_places():
    # Position k of image j has rank k · IPC + j.
    assert patches.assign(3, 4, "rank_blocks", None).tolist() == [
        [0, 3, 6, 9],
        [1, 4, 7, 10],
        [2, 5, 8, 11],
    ]


def test_random_assignment_draws_without_replacement():
    places = patches.assign(5, 4, "random", generator(0, "assignment", "cat"))
    assert places.shape == (5, 4)
    assert sorted(places.ravel().tolist()) == list(range(20))
    assert places.tolist() != patches.assign(5, 4, "rank_blocks", None).tolist()
    again = patches.assign(5, 4, "random", generator(0, "assignment", "cat"))
    assert again.tolist() == places.tolist()


@pytest.mark.parametrize(
    ("factor", "resolution"), [(1, 8), (2, 8), (2, 9), (3, 8), (3, 10), (4, 15), (8, 12)]
)
def test_stitching_is_nearest_sampling_into_a_grid(factor, resolution):
    side = resolution // factor
    rng = np.random.default_rng(0)
    parts = rng.integers(0, 256, (factor**2, 3, side, side), np.uint8)
    actual = patches.stitch(parts, resolution)
    assert actual.shape == (3, resolution, resolution)
    # Official code: the first resolution % factor rows and columns are one pixel larger.
    sizes = [side + (i < resolution % factor) for i in range(factor)]
    wanted = torch.zeros(3, resolution, resolution)
    for row, column in itertools.product(range(factor), repeat=2):
        patch = torch.from_numpy(parts[row * factor + column])[None].float()
        part = torch.nn.functional.interpolate(patch, (sizes[row], sizes[column]), mode="nearest")
        top, left = sum(sizes[:row]), sum(sizes[:column])
        wanted[:, top : top + sizes[row], left : left + sizes[column]] = part[0]
    np.testing.assert_array_equal(actual, wanted.numpy())
