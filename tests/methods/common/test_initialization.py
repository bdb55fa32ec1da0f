import numpy as np
import pyarrow as pa
import pytest
import torch
from stillhouse.artifacts import formats, store
from stillhouse.data.codecs import encode
from stillhouse.data.distilled_set import SCHEMA, read_set
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import normalised_to_bytes
from stillhouse.methods.common.initialization import initial_images

CLASSES = ["0", "1", "2"]
PLACES = [(class_id, index) for class_id in CLASSES for index in range(4)]


@pytest.fixture(scope="module")
def distilled_set(tmp_path_factory):
    """Return a distilled set with two images per class that differ from the training images."""
    folder = tmp_path_factory.mktemp("set")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 3, 8, 8), np.uint8)
    tables = [
        pa.table(
            {
                "image": [{"bytes": encode(image, "png"), "path": None} for image in images],
                "label": [label] * 2,
                "class_id": [class_id] * 2,
                "index": [0, 1],
                "origin": [[], []],
            },
            schema=SCHEMA,
        )
        for label, (class_id, images) in enumerate(zip(CLASSES, pixels, strict=True))
    ]
    spec = {"settings": {"classes": CLASSES}, "address": str(folder / "x")}
    store.write(spec["address"], spec, {"images.parquet": formats.RowGroups(SCHEMA, tables)})
    return folder / "x" / "images.parquet"


@pytest.fixture
def initial(class_images, distilled_set):
    """Return a function that returns initial images of a kind."""

    def initial(kind, places=PLACES, seed=0, flip=0.5, **options):
        files = {"noise": None, "real": class_images, "set": distilled_set}[kind]
        return initial_images(kind, places, files, 8, seed, flip=flip, **options)

    return initial


def test_noise_is_standard_normal(initial):
    noise = initial("noise", [(class_id, i) for class_id in CLASSES for i in range(50)])
    assert noise.shape == (150, 3, 8, 8) and noise.dtype == torch.float32
    n = noise.numel()
    assert abs(noise.mean()) < 5 / n**0.5 and abs(noise.var() - 1) < 5 * (2 / n) ** 0.5
    assert len(noise.unique()) > 0.99 * n


@pytest.mark.parametrize("kind", ["noise", "real", "set"])
@pytest.mark.parametrize("draw", ["distinct", "replacement"])
def test_an_image_belongs_to_seed_class_and_index(initial, kind, draw):
    images = initial(kind, draw=draw)
    rows = [7, 0, 10]
    assert torch.equal(initial(kind, [PLACES[i] for i in rows], draw=draw), images[rows])
    assert not torch.equal(initial(kind, seed=1, draw=draw), images)


def test_real_images_need_the_files_of_their_classes_alone(class_images):
    places = [("1", i) for i in range(4)]
    images = initial_images("real", places, {"1": class_images["1"]}, 8, 0)
    assert torch.equal(images, initial_images("real", places, class_images, 8, 0))


def known(class_images, class_id):
    """Return {bytes of an image: (row in its class, mirrored)} of the training images."""
    pixels, _ = load_split(class_images, [class_id], 8, "train")
    return by_bytes(pixels.numpy())


def by_bytes(pixels):
    rows = {}
    for mirrored in (True, False):
        for i, image in enumerate(pixels):
            rows[(image[:, :, ::-1] if mirrored else image).tobytes()] = i, mirrored
    return rows


def recognised(images, rows):
    return [rows[image.tobytes()] for image in normalised_to_bytes(images)]


@pytest.mark.parametrize("class_id", CLASSES)
def test_distinct_real_images_occur_once_while_there_are_enough(initial, class_images, class_id):
    rows = known(class_images, class_id)
    count = len(rows) // 2
    places = [(class_id, i) for i in range(count + 3)]
    actual = recognised(initial("real", places, flip=0.0), rows)
    assert not any(mirrored for _, mirrored in actual)
    assert sorted(i for i, _ in actual[:count]) == list(range(count))
    assert actual[count:] == actual[:3]
    assert [i for i, _ in actual] != sorted(i for i, _ in actual)


def test_real_images_may_be_drawn_with_replacement(initial, class_images):
    rows = known(class_images, "1")
    count = len(rows) // 2
    places = [("1", i) for i in range(4 * count)]
    actual = recognised(initial("real", places, draw="replacement"), rows)
    # Of n images, n (1 - e⁻⁴) are expected among 4 n draws.
    assert 0.85 * count < len({i for i, _ in actual})
    assert actual[count : 2 * count] != actual[:count]
    assert 0.35 < np.mean([mirrored for _, mirrored in actual]) < 0.65


@pytest.mark.parametrize("flip", [0, 1])
def test_real_images_are_mirrored_by_their_share(initial, class_images, flip):
    images = initial("real", [("0", i) for i in range(20)], flip=flip)
    assert {mirrored for _, mirrored in recognised(images, known(class_images, "0"))} == {
        bool(flip)
    }


@pytest.mark.parametrize("draw", ["distinct", "replacement"])
def test_images_of_a_set_are_taken_in_their_order_or_drawn(initial, distilled_set, draw):
    pixels, labels = read_set(store.read_table(distilled_set))
    places = [(class_id, i) for class_id in "20" for i in range(40)]
    images = initial("set", places, draw=draw, flip=0.0)
    for row, class_id in enumerate("20"):
        rows = by_bytes(pixels[labels == int(class_id)])
        indices = [i for i, _ in recognised(images[40 * row : 40 * row + 40], rows)]
        if draw == "distinct":
            assert indices == [i % 2 for i in range(40)]
        else:
            assert 8 < sum(indices) < 32 and indices != [i % 2 for i in range(40)]
