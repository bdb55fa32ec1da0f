"""Slices cover a set's images in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.methods.ruo.slices import Slice, slices


@given(
    st.one_of(st.sampled_from(["class", "set"]), st.integers(1, 50)),
    st.integers(1, 12),
    st.integers(1, 60),
)
def test_slices_cover_all_images_in_the_order_of_the_set(size, n_classes, ipc):
    cut = slices(size, n_classes, ipc)
    places = [place for one in cut for place in one.places]
    assert places == [(label, index) for label in range(n_classes) for index in range(ipc)]
    assert [one.n_images for one in cut] == [len(one.places) for one in cut]
    if isinstance(size, int):
        counts = {one.count for one in cut}
        assert max(counts) <= size and max(counts) - min(counts) <= 1


def test_slices_of_the_paper_s_largest_set_halve_a_class():
    cut = slices(360, 10, 718)
    assert len(cut) == 20
    assert cut[:2] == [Slice(0, 1, 0, 359), Slice(0, 1, 359, 359)]


@pytest.mark.parametrize(("size", "count"), [("set", 1), ("class", 10), (4, 30), (64, 10)])
def test_the_number_of_slices(size, count):
    assert len(slices(size, 10, 10)) == count
