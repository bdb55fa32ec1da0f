"""Limits of RDED: images by the number of patches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.errors import StillhouseError
from stillhouse.methods.rded.method import RDED

SETTINGS = {
    **{"images_per_class": 300, "patches_per_image": 1, "crops_per_image": 5},
    "patches_per_side": 1,
}


def most(smallest=100, resolution=32, ipcs=(1,), **changes):
    return RDED().max_ipc("k", SETTINGS | changes, list(ipcs), smallest, resolution)[0]


@given(
    images=st.integers(1, 50),
    smallest=st.integers(1, 50),
    patches=st.integers(1, 4),
    crops=st.integers(1, 4),
    side=st.integers(1, 3),
)
def test_every_patch_is_used_once(images, smallest, patches, crops, side):
    available = [(i, p) for i in range(min(images, smallest)) for p in range(min(patches, crops))]
    settings = {"images_per_class": images, "patches_per_image": patches, "crops_per_image": crops}
    whole_sets = range(0, len(available) - side**2 + 1, side**2)
    assert most(smallest, patches_per_side=side, **settings) == len(whole_sets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nested_in": 1, "ipcs": [1, 2]}, r"k\.nested_in: must be at least the IPC, 2, not 1"),
        ({"nested_in": 101}, r"k\.nested_in: must be at most 100, not 101: 100 images per class"),
        (
            {"patches_per_side": 8, "resolution": 4},
            r"k\.patches_per_side: must be at most the dataset's resolution, 4 px, not 8",
        ),
    ],
)
def test_an_impossible_set_is_an_error(changes, message):
    with pytest.raises(StillhouseError, match=message):
        most(**changes)


def test_nested_sets_are_of_one_size():
    assert most(nested_in=100, ipcs=[1, 100]) == 100


def test_scoring_has_no_effect_on_patches_as_large_as_the_input():
    (unused,) = RDED().unused({"patches_per_side": 1, "scoring": "resize"})
    assert (unused.names, unused.reason) == ({"scoring"}, "patches_per_side: 1")
    assert RDED().unused({"patches_per_side": 2, "scoring": "resize"}) == []
