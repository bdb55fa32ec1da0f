import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.methods.statistical_matching.batches import batches

counts = st.integers(1, 7)
sizes = st.integers(0, 60)
orders = st.sampled_from(["by_class", "by_copy"])


def cut(order, n_classes, ipc, batch_size):
    settings = {"order": order, "classes": [""] * n_classes, "batch_size": batch_size}
    return batches(settings, ipc)


@given(orders, counts, counts, sizes)
def test_every_image_is_in_one_batch(order, n_classes, ipc, batch_size):
    actual = [pair for batch in cut(order, n_classes, ipc, batch_size) for pair in batch]
    assert sorted(actual) == list(itertools.product(range(n_classes), range(ipc)))


@given(counts, counts, sizes)
def test_batches_by_class_are_full_but_the_last(n_classes, ipc, batch_size):
    actual = cut("by_class", n_classes, ipc, batch_size)
    size = batch_size or n_classes * ipc
    assert {len(batch) for batch in actual[:-1]} <= {size}
    assert 1 <= len(actual[-1]) <= size
    # Class after class, so that few classes share a batch.
    flat = [pair for batch in actual for pair in batch]
    assert flat == sorted(flat)


@given(counts, counts, sizes)
def test_batches_by_copy_never_have_a_class_twice(n_classes, ipc, batch_size):
    actual = cut("by_copy", n_classes, ipc, batch_size)
    for batch in actual:
        assert len({index for _, index in batch}) == 1
        assert len({label for label, _ in batch}) == len(batch)
    # The smallest possible number, with equal batches for all copies.
    assert len(actual) == ipc * -(-n_classes // min(batch_size or n_classes, n_classes))
    assert [batch[0][1] for batch in actual] == sorted(batch[0][1] for batch in actual)


@pytest.mark.parametrize(
    ("order", "batch_size", "wanted"),
    [
        ("by_class", 4, [[(0, 0), (0, 1), (1, 0), (1, 1)], [(2, 0), (2, 1)]]),
        ("by_copy", 4, [[(0, 0), (1, 0), (2, 0)], [(0, 1), (1, 1), (2, 1)]]),
        ("by_copy", 2, [[(0, 0), (1, 0)], [(2, 0)], [(0, 1), (1, 1)], [(2, 1)]]),
    ],
)
def test_batches_of_three_classes_of_two(order, batch_size, wanted):
    assert cut(order, 3, 2, batch_size) == wanted
