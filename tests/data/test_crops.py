import io

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from stillhouse.data.codecs import decode
from stillhouse.data.crops import boxes_of, cut_many, whole_image
from stillhouse.data.transforms import cut

CPU = torch.device("cpu")


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), np.uint8)


@pytest.mark.parametrize("sizes", [[(9, 9), (9, 9)], [(9, 9), (7, 12)]])
def test_crops_of_an_image_are_consecutive_for_any_sizes(sizes):
    pixels = [random_image(*size, seed) for seed, size in enumerate(sizes)]
    boxes = [np.array([[0, 0, 4, 4], [1, 2, 5, 5]]), np.array([[2, 3, 4, 4]])]
    crops = cut_many(pixels, boxes, 6, CPU)
    expected = [
        cut(torch.from_numpy(image)[None], torch.from_numpy(box[None]), 6)
        for image, image_boxes in zip(pixels, boxes, strict=True)
        for box in image_boxes
    ]
    torch.testing.assert_close(crops, torch.cat(expected))


def test_boxes_of_rows_have_the_order_of_the_box_columns():
    row = {"width": 4, "height": 3, "score": 0.5, "left": 2, "top": 1}
    (box,) = boxes_of([row])
    assert box.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("size", "box"), [((12, 8), (0, 2, 8, 8)), ((8, 13), (2, 0, 8, 8)), ((4, 4), (0, 0, 4, 4))]
)
def test_the_crop_of_an_entire_image_is_the_centred_square(size, box):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Pillow.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)).save(buffer, "PNG")
    pixels, origin = whole_image("a", buffer.getvalue(), 6)
    assert [tuple(row.values()) for row in origin] == [("a", *box)]
    image = torch.from_numpy(decode(buffer.getvalue()).copy()).float()
    wanted = functional.resized_crop(image, *box, [6, 6], antialias=True)
    assert np.abs(pixels - wanted.numpy()).max() < 0.51
