"""Every layout of a set made elsewhere gives the same images and labels."""

import json

import numpy as np
import pytest
import torch
from stillhouse.data.codecs import encode, format_of
from stillhouse.errors import StillhouseError

from tests.methods.given import layouts
from tests.methods.given.layouts import LABELS, LAYOUTS, SOFT, pixels

# Rows class by class.
ORDER = np.argsort(LABELS, kind="stable")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_all_layouts_have_the_same_images_in_the_same_order(layout, tmp_path, read):
    np.testing.assert_array_equal(read(layout(tmp_path)).pixels, pixels()[ORDER])


@pytest.mark.parametrize("encoding", ["png", "jpeg", "webp"])
def test_files_are_stored_unchanged(encoding, tmp_path, read):
    root = layouts.folders(tmp_path / "set", ["0", "1", "2"], encoding)
    stored = read(root).stored
    assert stored == [encode(image, encoding) for image in pixels()[ORDER]]
    assert {format_of(data) for data in stored} == {encoding}


def test_an_encoding_or_another_format_gives_pixels(tmp_path, read):
    root = layouts.rded(tmp_path)
    assert all(isinstance(one, np.ndarray) for one in read(root, encoding="webp30").stored)
    for path in root.rglob("*.png"):
        from PIL import Image

        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    read_again = read(root)
    assert all(isinstance(one, np.ndarray) for one in read_again.stored)
    np.testing.assert_array_equal(read_again.pixels, pixels()[ORDER])


@pytest.mark.parametrize("layout", [layouts.rded, layouts.npz, layouts.mtt])
def test_images_of_another_resolution_are_resized(layout, tmp_path, read, capsys):
    resized = read(layout(tmp_path), resolution=4).pixels
    assert resized.shape == (6, 3, 4, 4)
    halves = pixels()[ORDER].reshape(6, 3, 4, 2, 4, 2).mean((3, 5))
    assert np.abs(resized - halves).mean() < 25
    assert "2 images of '0' resized to 4 px" in capsys.readouterr().out


def test_the_centred_square_of_an_oblong_image_is_used(tmp_path, read):
    wide = np.pad(pixels(), ((0, 0), (0, 0), (0, 0), (3, 3)))
    root = layouts.folders(tmp_path / "set", ["0", "1", "2"], images=wide)
    np.testing.assert_array_equal(read(root).pixels, pixels()[ORDER])


def test_grey_images_have_three_equal_channels(tmp_path, read):
    grey = pixels()[:, :1]
    for shape in (grey, grey.transpose(0, 2, 3, 1)):
        images = read(layouts.npz(tmp_path, images=shape)).pixels
        np.testing.assert_array_equal(images, np.repeat(grey[ORDER], 3, 1))


def test_pixels_from_0_to_1_have_mean_0_and_deviation_1(tmp_path, read):
    path = layouts.npz(tmp_path, images=pixels() / 255)
    settings = {"normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    np.testing.assert_array_equal(read(path, **settings).pixels, pixels()[ORDER])


def test_a_file_of_several_runs_has_the_set_of_one(tmp_path, read):
    path = layouts.dc(tmp_path, runs=3)
    assert (read(path).pixels != pixels()[ORDER]).any()
    np.testing.assert_array_equal(read(path, run=2).pixels, pixels()[ORDER])
    with pytest.raises(StillhouseError, match="has 3 runs; lower run, 3"):
        read(path, run=3)


def test_pixels_beyond_the_range_are_clipped_and_counted(tmp_path, read, capsys):
    images = np.full((6, 3, 8, 8), 2.0, np.float32)
    images[:3] = -1
    path = layouts.npz(tmp_path, images=images)
    one = {"normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    assert set(np.unique(read(path, **one).pixels)) == {0, 255}
    assert "100.0% of the pixels are outside" in capsys.readouterr().out


def test_hard_labels_are_no_learned_labels(tmp_path, read):
    learned = read(layouts.mtt(tmp_path)).learned
    assert (learned.labels, learned.label_kind, learned.learning_rate) == (None, None, None)


def test_a_set_as_of_ddranking_has_logits_and_a_rate(tmp_path, read):
    learned = read(layouts.ddranking(tmp_path)).learned
    np.testing.assert_array_equal(learned.labels, np.log(SOFT)[ORDER])
    assert (learned.label_kind, learned.learning_rate) == ("logits", pytest.approx(0.02))


def test_the_rate_of_trajectory_matching_is_read(tmp_path, read):
    folder = layouts.mtt(tmp_path, rate="lr_best.pt")
    assert read(folder).learned.learning_rate == pytest.approx(0.02)


@pytest.mark.parametrize("write", [layouts.npz, layouts.tensors])
def test_soft_labels_that_sum_to_one_are_probabilities(write, tmp_path, read):
    rate = np.array([0.25], np.float32)
    learned = read(write(tmp_path, labels=SOFT, learning_rate=rate)).learned
    np.testing.assert_array_equal(learned.labels, SOFT[ORDER])
    assert (learned.label_kind, learned.learning_rate) == ("probabilities", 0.25)


def test_classes_beside_soft_labels_precede_the_largest_label(tmp_path, read):
    soft = np.roll(SOFT, 1, 1)
    path = layouts.npz(tmp_path, labels=soft, classes=LABELS)
    images = read(path)
    np.testing.assert_array_equal(images.pixels, pixels()[ORDER])
    np.testing.assert_array_equal(images.learned.labels, soft[ORDER])


def test_a_parquet_file_of_stillhouse_keeps_what_was_learned(tmp_path, read):
    metadata = {"learned_label_kind": "logits", "learning_rate": "0.125"}
    path = layouts.parquet(tmp_path, metadata=metadata, learned_label=SOFT.tolist())
    learned = read(path).learned
    np.testing.assert_array_equal(learned.labels, SOFT[ORDER])
    assert (learned.label_kind, learned.learning_rate) == ("logits", 0.125)


def test_folders_by_class_id_precede_those_by_position(tmp_path, read):
    root = layouts.class_ids(tmp_path)
    order = np.concatenate([np.flatnonzero(label == LABELS) for label in (1, 2, 0)])
    np.testing.assert_array_equal(read(root, classes=["1", "2", "0"]).pixels, pixels()[order])


def test_a_label_is_a_position_in_the_class_names_of_the_metadata(tmp_path, read):
    path = layouts.parquet_folder(tmp_path)
    names = {"info": {"features": {"label": {"names": ["a", "b", "c"]}}}}
    other = layouts.parquet(tmp_path / "b", metadata={"huggingface": json.dumps(names)})
    for place in (path, other):  # names that are no class ids: positions in the dataset
        np.testing.assert_array_equal(read(place).pixels, pixels()[ORDER])


def test_float64_and_half_are_read(tmp_path, read):
    folder = layouts.mtt(tmp_path)
    images = torch.from_numpy(layouts.normalised(pixels())).double()
    torch.save(images, folder / "images_best.pt")
    np.testing.assert_array_equal(read(folder).pixels, pixels()[ORDER])
    torch.save(images.bfloat16(), folder / "images_best.pt")
    assert np.abs(read(folder).pixels.astype(int) - pixels()[ORDER]).max() < 4
