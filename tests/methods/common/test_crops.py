import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from stillhouse.data.class_images import decode
from stillhouse.methods.common.crops import to_bytes, whole_image


def test_bytes_are_cut_off_or_rounded():
    pixels = torch.tensor([-3.0, 0.0, 0.4, 1.5, 1.9, 2.5, 254.6, 254.99999, 255.0, 260.0])
    truncated = [0, 0, 0, 1, 1, 2, 254, 255, 255, 255]
    rounded = [0, 0, 0, 2, 2, 2, 255, 255, 255, 255]
    assert to_bytes(pixels, "truncate").tolist() == truncated
    assert to_bytes(pixels, "nearest").tolist() == rounded
    assert to_bytes(pixels, "nearest").dtype == np.uint8


@pytest.mark.parametrize(
    ("size", "box"), [((12, 8), (0, 2, 8, 8)), ((8, 13), (2, 0, 8, 8)), ((4, 4), (0, 0, 4, 4))]
)
def test_whole_images_are_centred_squares(size, box):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Pillow.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(buffer, "PNG")
    pixels, origin = whole_image("a", buffer.getvalue(), 6)
    assert [tuple(row.values()) for row in origin] == [("a", *box)]
    image = torch.from_numpy(decode(buffer.getvalue()).copy()).float()
    wanted = functional.resized_crop(image, *box, [6, 6], antialias=True)
    assert np.abs(pixels - wanted.numpy()).max() < 0.51
