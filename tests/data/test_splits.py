"""Splits in memory and in a file are the same images; a file takes no memory of the process."""

from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.artifacts import context, machine_faults
from stillhouse.data import splits
from stillhouse.data.splits import StoredImages, load_split
from stillhouse.errors import StillhouseError

from tests.artifacts.local_stages import python

# Prints the megabytes by which the process has grown.
LOADED = """
import sys
import numpy as np
import psutil
from stillhouse.artifacts import context
from stillhouse.data import splits

def load(n_classes):
    ids = [str(number) for number in range(n_classes)]
    images, labels = splits.load_split(dict.fromkeys(ids), ids, 128, "train")
    assert sum(len(batch) for batch in images.split(50)) == 64 * n_classes
    return images, psutil.Process().memory_info().rss

n_classes, context.MEMORY_BYTES = map(int, sys.argv[1:])
pixels = np.zeros((3, 8, 8), np.uint8)
splits.count_images = lambda path, split: 64
splits._decoded = lambda *arguments: [pixels] * 64
before = load(2)[1]    # with the libraries that are loaded when they are first used
images, after = load(n_classes)
print((after - before) // 2**20)
"""


@pytest.fixture
def files(in_tiny_results):
    """Return the images of the tiny config's classes, by class id."""
    (dataset,) = in_tiny_results.artifacts["dataset"].values()
    stored = in_tiny_results.family(dataset.upstream["images"]).artifact
    return {name: Path(stored.member_file(name)) for name in dataset.settings["classes"]}


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_in_a_file_are_those_in_memory(files, monkeypatch, split):
    expected, labels = load_split(files, list(files), 8, split)
    assert isinstance(expected, torch.Tensor)
    monkeypatch.setattr(context, "MEMORY_BYTES", expected.nbytes)
    assert isinstance(load_split(files, list(files), 8, split)[0], torch.Tensor)
    monkeypatch.setattr(context, "MEMORY_BYTES", expected.nbytes - 1)
    images, again = load_split(files, list(files), 8, split)
    assert isinstance(images, StoredImages) and torch.equal(again, labels)
    assert (len(images), images.shape) == (len(expected), tuple(expected.shape))
    rows = torch.tensor([5, 0, 5, len(images) - 1])
    for part in (rows, slice(3, 9), slice(0, 0), slice(len(images) - 2, len(images) + 5)):
        assert torch.equal(images[part], expected[part])
    assert torch.equal(torch.cat(list(images.split(50))), expected)


def test_the_file_has_no_name(empty):
    parts = [torch.full((k, 3, 2, 2), k, dtype=torch.uint8) for k in (2, 0, 1)]
    images = StoredImages((3, 3, 2, 2), parts)
    assert torch.equal(images[0:3], torch.cat(parts))
    assert list(context.WORK.iterdir()) == []


def test_a_disk_without_room_is_an_error_before_any_image_is_decoded(empty, monkeypatch):
    monkeypatch.setattr(machine_faults, "free_bytes", lambda path: 30)
    decoded = (pytest.fail("decoded") for _ in range(3))
    with pytest.raises(StillhouseError, match=r"results/.work: disk full, at least 6 bytes are"):
        StoredImages((3, 3, 2, 2), decoded)


def test_images_are_moved_when_they_are_indexed(empty):
    images = StoredImages((1, 3, 2, 2), [torch.zeros(1, 3, 2, 2, dtype=torch.uint8)])
    moved = images.to("meta")
    assert (images.device.type, moved.device.type, moved.file) == ("cpu", "meta", images.file)
    assert moved[torch.tensor([0])].device.type == "meta"


def test_threads_do_not_change_the_order_of_images(files, monkeypatch):
    expected = splits._decoded(files["0"], "train", None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    again = splits._decoded(files["0"], "train", None)
    assert all(map(np.array_equal, again, expected)) and len(again) == len(expected)


def test_memory_does_not_grow_with_a_split_in_a_file(empty):
    """A class has 3 MB, sixty of them 189 MB."""

    def grown(n_classes, limit):
        done = python(LOADED, str(n_classes), str(limit), capture_output=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert grown(60, 0) < 60
    assert grown(60, 2**30) > 120
