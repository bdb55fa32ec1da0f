"""The digits of scikit-learn as a source."""

import io

import numpy as np
from PIL import Image as Pillow

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.sources.base import Image
from stillhouse.data.sources.catalogue import DIGITS


class Digits:
    """scikit-learn's copy of the UCI handwritten digits: 1,797 grey images of 8 × 8 pixels.

    This copy has no official split: a fixed random two thirds of each class are the training
    split. Grey levels 0 to 16 become 0 to 255.
    """

    def images(self, wanted):
        """Yield the images of the classes in `wanted`, class by class."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        for class_id in (c for c in DIGITS if c in wanted):
            rows = np.flatnonzero(digits.target == int(class_id))
            order = permutation(generator(0, "digits split", class_id), len(rows))
            train_rows = set(rows[order[: round(len(rows) * 2 / 3)]].tolist())
            for row in rows.tolist():
                buffer = io.BytesIO()
                Pillow.fromarray(pixels[row]).save(buffer, "PNG")
                split = "train" if row in train_rows else "test"
                name = f"digits-{row:04d}"
                yield Image(class_id, name, split, buffer.getvalue(), f"{name}.png")
