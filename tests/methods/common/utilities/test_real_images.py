import pytest
import torch
from stillhouse.data.splits import StoredImages
from stillhouse.data.transforms import normalise
from stillhouse.methods.common.utilities.real_images import RealImages

from tests.methods.common.utilities.conftest import CLASSES, COUNTS


@pytest.mark.parametrize("label", [0, 1, 2])
def test_rows_are_distinct_and_of_the_class(real, label):
    start = sum(COUNTS[:label])
    for iteration in range(20):
        rows = real.rows(label, 5, iteration).tolist()
        assert len(set(rows)) == 5
        assert set(rows) <= set(range(start, start + COUNTS[label]))
    assert sorted(real.rows(label, 100, 0)) == list(range(start, start + COUNTS[label]))


def test_every_iteration_draws_anew_and_the_same_again(real):
    drawn = [tuple(real.rows(0, 5, iteration)) for iteration in range(20)]
    assert len(set(drawn)) > 10
    assert drawn == [tuple(real.rows(0, 5, iteration)) for iteration in range(20)]


def test_images_of_classes_are_normalised_one_class_after_the_other(real):
    assert real.sizes([2, 1], 6) == {2: 6, 1: 6} and real.sizes([0, 2], 8) == {0: 8, 2: 7}
    drawn = real.draw([2, 1], 5, 3)
    rows = [*real.rows(2, 5, 3), *real.rows(1, 5, 3)]
    assert torch.equal(drawn, normalise(real.pixels[rows]))


def test_images_in_a_file_are_drawn_as_those_in_memory(real, empty):
    stored = StoredImages(tuple(real.pixels.shape), [real.pixels])
    labels = torch.arange(len(COUNTS)).repeat_interleave(torch.tensor(COUNTS))
    in_file = RealImages(stored, labels, CLASSES, real.seed)
    assert torch.equal(in_file.draw([2, 1], 5, 3), real.draw([2, 1], 5, 3))
