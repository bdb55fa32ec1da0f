import io

import numpy as np
from PIL import Image as Pillow
from stillhouse.data.sources.catalogue import DIGITS, DIGITS_SMALLEST
from stillhouse.data.sources.digits import Digits


def test_every_digit_is_listed_once():
    actual = list(Digits().images(set(DIGITS)))
    assert len(actual) == 1797
    assert len({image.image_id for image in actual}) == 1797
    counts = {c: [0, 0] for c in DIGITS}
    for image in actual:
        counts[image.class_id][image.split == "test"] += 1
    # Two thirds of each class, rounded.
    assert counts == {
        "0": [119, 59],
        "1": [121, 61],
        "2": [118, 59],
        "3": [122, 61],
        "4": [121, 60],
        "5": [121, 61],
        "6": [121, 60],
        "7": [119, 60],
        "8": [116, 58],
        "9": [120, 60],
    }
    assert min(train for train, _ in counts.values()) == DIGITS_SMALLEST


def test_digits_keep_their_ids_and_splits():
    selected = {image.image_id: image for image in Digits().images({"8", "3"})}
    complete = {image.image_id: image for image in Digits().images(set(DIGITS))}
    assert len(selected) == 183 + 174
    assert all(complete[name] == image for name, image in selected.items())
    trained = [i.image_id for i in selected.values() if (i.class_id, i.split) == ("3", "train")]
    assert trained[:4] == ["digits-0003", "digits-0013", "digits-0023", "digits-0045"]


def test_digits_are_scikit_learns_pixels():
    from sklearn.datasets import load_digits

    digits = load_digits()
    for image in Digits().images({"5"}):
        row = int(image.image_id.removeprefix("digits-"))
        assert digits.target[row] == 5
        pixels = np.asarray(Pillow.open(io.BytesIO(image.data)), float)
        assert np.abs(pixels / 255 * 16 - digits.images[row]).max() <= 8 / 255
