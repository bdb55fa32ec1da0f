import hashlib
import io
import warnings
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as Pillow
from stillhouse.artifacts import jobs
from stillhouse.artifacts import store as artifacts
from stillhouse.artifacts.addresses import Artifact
from stillhouse.data import class_images as images_module
from stillhouse.data.class_images import decode, encode, images, load_split, read_class, unreadable
from stillhouse.data.class_images import test_box as box_for_testing
from stillhouse.data.index import index
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError

functional = pytest.importorskip("torchvision.transforms.v2.functional")

CLASSES = ["cat", "dog", "hen"]


def picture(value, size=(3, 2), mode="RGB"):
    buffer = io.BytesIO()
    rng = np.random.default_rng(value)
    shape = (size[1], size[0]) if mode in ("L", "P") else (size[1], size[0], len(mode))
    Pillow.fromarray(rng.integers(0, 256, shape, np.uint8), mode).save(buffer, "PNG")
    return buffer.getvalue()


class Pets:
    """A source of Parquet files in a folder, its artifacts, and the jobs that make them."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.files = {"train": [folder / "train.parquet"], "test": [folder / "test.parquet"]}
        self.write("train", [(i, i % 3) for i in range(30)])
        self.write("test", [(100 + i, i % 3) for i in range(6)])
        self.settings = {
            "name": "pets",
            "kind": "parquet",
            "classes": CLASSES,
            "image_column": "image",
            "label_column": "label",
            "revision": 4,
            "holdout": 0.0,
            **settings,
        }
        self.index = Artifact("index", "pets", self.settings)
        self.images = Artifact("images", "pets", {}, {"index": self.index})

    def write(self, split, rows):
        data = pa.array([picture(value) for value, _ in rows], pa.binary())
        table = pa.table({"image": data, "label": [label for _, label in rows]})
        pq.write_table(table, self.files[split][0])

    def make_index(self, **resources):
        wanted = [(self.index.spec(), None, ["index.parquet"])]
        jobs.produce(index, self.files, wanted, resources)
        return artifacts.read_table(self.index.file("index.parquet")).to_pylist()

    def make_images(self, *classes, **resources):
        members = [(self.images.at(class_id=c).spec(), c, ["images.parquet"]) for c in classes]
        inputs = {**self.files, "index": [self.index.directory / "index.parquet"]}
        jobs.produce(images, inputs, members, resources)
        return [self.images.at(class_id=c).directory / "images.parquet" for c in classes]


@pytest.fixture
def pets(empty):
    return Pets(empty)


def test_images_are_kept_as_they_are_per_class(pets):
    pets.make_index()
    paths = pets.make_images("hen", "cat")
    rows = artifacts.read_table(paths[1]).to_pylist()
    assert {row["class_id"] for row in rows} == {"cat"}
    assert [row["image"]["bytes"] for row in rows] == [
        picture(value) for value in [*range(0, 30, 3), 100, 103]
    ]
    assert list(read_class(paths[0], "test")) == [
        ("test-0000002", picture(102)),
        ("test-0000005", picture(105)),
    ]
    assert len(read_class(paths[0], "train")) == 10


def test_a_block_reads_the_source_once(pets, monkeypatch):
    pets.make_index()
    passes, whole = [], catalogue.ParquetFiles.images

    def counted(self, wanted):
        passes.append(wanted)
        return whole(self, wanted)

    monkeypatch.setattr(catalogue.ParquetFiles, "images", counted)
    pets.make_images(*CLASSES)
    assert passes == [set(CLASSES)]


def test_classes_do_not_depend_on_their_block(pets):
    pets.make_index()
    together = [path.read_bytes() for path in pets.make_images(*CLASSES)]
    alone = []
    for class_id in CLASSES:
        pets.images.at(class_id=class_id).directory.joinpath("images.parquet").unlink()
        alone += [path.read_bytes() for path in pets.make_images(class_id)]
    assert alone == together


def changed(value):
    return [(value if i == 4 else i, i % 3) for i in range(30)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(999), "image 'train-0000004' of class 'dog' has changed"),
        (changed(4)[:28], "image 'train-0000028' of class 'dog' is gone"),
        ([(i, 2 if i == 4 else i % 3) for i in range(30)], "'train-0000004'.* is gone"),
    ],
    ids=["changed", "gone", "relabelled"],
)
def test_a_source_that_has_changed_is_an_error(pets, rows, message):
    pets.make_index()
    pets.write("train", rows)
    with pytest.raises(StillhouseError, match=message) as caught:
        pets.make_images("dog")
    assert "raise sources.pets.revision above 4" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not pets.images.at(class_id="dog").directory.joinpath("images.parquet").exists()


def test_unused_images_are_not_kept(empty):
    pets = Pets(empty, holdout=0.3)
    pets.make_index()
    (path,) = pets.make_images("dog")
    rows = artifacts.read_table(path).to_pylist()
    assert sorted(row["split"] for row in rows) == ["test"] * 3 + ["train"] * 7
    assert all(row["image_id"].startswith("train-") for row in rows)


def test_an_index_cut_short_is_named(pets):
    pets.make_index()
    path = pets.index.directory / "index.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(artifacts.Damaged, match=r"index\.parquet"):
        pets.make_images("cat")


def test_decode_gives_rgb_whatever_the_file():
    for mode in ("RGB", "L", "RGBA"):
        data = picture(1, (5, 4), mode)
        pixels = decode(data)
        assert pixels.shape == (3, 4, 5)
        assert pixels.dtype == np.uint8
        with Pillow.open(io.BytesIO(data)) as image:
            wanted = np.asarray(image)
        wanted = np.stack([wanted] * 3, 2) if mode == "L" else wanted[:, :, :3]
        np.testing.assert_array_equal(pixels, wanted.transpose(2, 0, 1))


def saved(image, form, **options):
    """Return a Pillow image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_decode_scales_sixteen_bits_and_does_not_clip_them():
    grey = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    for form in ("PNG", "TIFF"):
        found = decode(saved(Pillow.fromarray(grey), form))
        assert found[:, 0].tolist() == [[0, 0, 1, 1, 128, 255]] * 3
    swapped = Pillow.frombytes("I;16B", (6, 1), grey.astype(">u2").tobytes())
    assert decode(saved(swapped, "TIFF"))[0, 0].tolist() == [0, 0, 1, 1, 128, 255]


@pytest.mark.parametrize("largest", [300, 65535])
def test_decode_scales_pgm_files_of_more_than_eight_bits(largest):
    grey = np.array([[0, largest // 3, largest]])
    plain = f"P2 3 1 {largest}\n{' '.join(map(str, grey[0]))}\n".encode()
    binary = f"P5 3 1 {largest}\n".encode() + grey.astype(">u2").tobytes()
    for data in (plain, binary):
        assert unreadable(data) is None
        assert decode(data)[:, 0].tolist() == [[0, 85, 255]] * 3


def test_decode_ignores_transparency():
    grey = Pillow.fromarray(np.array([[[7, 0], [200, 255]]], np.uint8), "LA")
    assert decode(saved(grey, "PNG"))[:, 0].tolist() == [[7, 200]] * 3
    palette = Pillow.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 0])
    palette.putdata([1, 0])
    for transparency in (1, b"\x80\x00"):
        data = saved(palette, "PNG", transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = decode(data)
        assert found[:, 0].T.tolist() == [[200, 100, 0], [10, 20, 30]]
    assert decode(saved(Pillow.new("1", (1, 1), 1), "PNG")).tolist() == [[[255]]] * 3


@pytest.mark.parametrize(("form", "near"), [("TIFF", 0), ("JPEG", 3)])
def test_decode_turns_ink_into_light(form, near):
    inks = {(0, 0, 0, 0): (255, 255, 255), (0, 255, 255, 0): (255, 0, 0)}
    inks |= {(255, 0, 0, 0): (0, 255, 255), (0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 55): (200,) * 3}
    for ink, light in inks.items():
        found = decode(saved(Pillow.new("CMYK", (8, 8), ink), form))
        assert np.abs(found.astype(int)[:, 4, 4] - light).max() <= near


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_decode_turns_an_image_upright(tag, form):
    # What EXIF's numbers mean: where the first row and the first column of the file belong.
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8], upright[:8, 8:] = 80, 160
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[tag]
    exif = Pillow.Exif()
    exif[0x0112] = tag
    data = saved(Pillow.fromarray(np.ascontiguousarray(stored)), form, exif=exif)
    found = decode(data)
    assert found.shape == (3, 16, 24)
    assert np.abs(found[0].astype(int) - upright).max() <= (4 if form == "JPEG" else 0)


def test_damaged_exif_data_leave_the_pixels_as_they_are():
    image = Pillow.new("RGB", (8, 8), (90, 90, 90))
    data = saved(image, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\x12" * 9)
    assert unreadable(data) is None
    assert decode(data).shape == (3, 8, 8)


def test_pixels_without_a_range_are_no_image():
    for mode in ("I", "F"):
        data = saved(Pillow.new(mode, (2, 2), 7), "TIFF")
        with pytest.raises(StillhouseError, match=f"pixels of mode {mode}, of which black"):
            decode(data)
        assert "black and white" in unreadable(data)


def test_floats_in_a_pfm_file_have_no_range():
    data = b"Pf\n1 1\n-1.0\n" + np.float32(0.5).tobytes()
    assert "pixels of mode F" in unreadable(data)


@pytest.mark.parametrize("error", [TypeError("seven"), KeyError(7), RuntimeError()])
def test_whatever_a_damaged_file_makes_pillow_raise_it_is_not_readable(monkeypatch, error):
    def raising(*_):
        raise error

    monkeypatch.setattr(images_module.Pillow, "open", raising)
    assert unreadable(b"II*") == (str(error) or "RuntimeError")
    with pytest.raises(StillhouseError, match="cat-7: is not a readable image"):
        decode(b"II*", "cat-7")


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_the_file_is_not_hidden(monkeypatch, error):
    def raising(*_):
        raise error

    monkeypatch.setattr(images_module.Pillow, "open", raising)
    for function in (unreadable, decode):
        with pytest.raises(error):
            function(b"II*")


def test_why_an_image_is_not_readable_is_the_same_in_every_process():
    assert unreadable(b"no image") == "cannot identify image file"


def test_what_can_be_decoded_is_readable():
    rng = np.random.default_rng(0)
    noise = Pillow.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
    for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = saved(noise, form)
        assert unreadable(data) is None
        assert decode(data).shape == (3, 40, 50)
        assert unreadable(data[:-900]), form
        with pytest.raises(StillhouseError):
            decode(data[:-900])
    for mode in ("L", "LA", "RGBA", "P", "1"):
        assert unreadable(saved(noise.convert(mode), "PNG")) is None
    assert unreadable(saved(noise.convert("CMYK"), "JPEG")) is None


def test_decode_resolves_a_palette():
    image = Pillow.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putdata([1, 0])
    buffer = io.BytesIO()
    image.save(buffer, "GIF")
    assert decode(buffer.getvalue())[:, 0].T.tolist() == [[200, 100, 0], [10, 20, 30]]


@pytest.mark.parametrize(
    "data", [b"", b"no image", picture(1)[:40], picture(1, (40, 40))[:-300], b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image_is_named(data):
    with pytest.raises(StillhouseError, match=r"^cat-7: is not a readable image") as caught:
        decode(data, "cat-7")
    assert "\n" not in str(caught.value)


def test_png_keeps_every_pixel_and_jpeg_nearly():
    pixels = decode(picture(3, (9, 9)))
    np.testing.assert_array_equal(decode(encode(pixels, "png")), pixels)
    smooth = np.broadcast_to(np.arange(16, dtype=np.uint8) * 16, (3, 16, 16))
    found = decode(encode(smooth, "jpeg")).astype(int)
    assert 0 < np.abs(found - smooth).max() < 12
    with Pillow.open(io.BytesIO(encode(smooth, "jpeg"))) as image:
        # Quality 75: the standard luminance table halved.
        assert image.format == "JPEG"
        assert image.quantization[0][0] == 8


@pytest.mark.parametrize(
    ("resolution", "size", "box"),
    [
        (224, (256, 256), (16, 16, 224, 224)),
        (224, (512, 512), (32, 32, 448, 448)),
        (64, (64, 64), (3, 3, 57, 57)),
        (32, (32, 32), (0, 0, 32, 32)),
        (8, (8, 8), (0, 0, 8, 8)),
        (16, (8, 8), (0, 0, 8, 8)),
        (4, (4, 4), (0, 0, 4, 4)),
        (224, (256, 300), (16, 38, 224, 224)),
    ],
)
def test_the_box_that_students_are_tested_on(resolution, size, box):
    assert tuple(box_for_testing(*size, resolution).tolist()) == box


class TestLoadSplit:
    @pytest.fixture
    def store(self, empty):
        """Return a function that keeps images of classes as `images` does."""

        def store(of_class):
            paths = []
            for class_id, rows in of_class.items():
                one = Artifact("images", "pets", {}).at(class_id=class_id)
                table = pa.table(
                    {
                        "image": [{"bytes": data, "path": name} for name, _, data in rows],
                        "class_id": [class_id] * len(rows),
                        "image_id": [name for name, _, _ in rows],
                        "split": [split for _, split, _ in rows],
                    },
                    schema=images_module.IMAGES_SCHEMA,
                )
                artifacts.write(one.directory, one.spec(), {"images.parquet": table})
                paths.append(one.directory / "images.parquet")
            return paths

        return store

    def test_labels_follow_the_given_order_and_rows_their_ids(self, store):
        cat = [("b", "test", picture(1)), ("a", "test", picture(2)), ("c", "train", picture(3))]
        dog = [("a", "test", picture(4))]
        paths = store({"dog": dog, "cat": cat})
        pixels, labels = load_split(paths, ["cat", "dog"], 2, "test")
        assert labels.tolist() == [0, 0, 1]
        assert labels.dtype == torch.int64
        # The middle of 3 × 2 pixels.
        expected = [decode(picture(value))[:, :, :2] for value in (2, 1, 4)]
        np.testing.assert_array_equal(pixels.numpy(), expected)
        reordered, labels = load_split(paths[:1] + paths[1:], ["dog", "cat"], 2, "test")
        assert labels.tolist() == [0, 1, 1]
        assert torch.equal(reordered[0], pixels[2])

    @pytest.mark.parametrize(
        ("split", "whole"), [("test", False), ("test", True), ("train", False)]
    )
    def test_pixels_are_those_of_torchvision(self, store, split, whole):
        sizes = [(64, 64), (90, 70), (30, 41), (64, 64), (40, 40)]
        data = [picture(i, size) for i, size in enumerate(sizes)]
        paths = store({"cat": [(str(i), split, one) for i, one in enumerate(data)]})
        pixels, _ = load_split(paths, ["cat"], 64, split, whole=whole)
        assert pixels.shape == (5, 3, 64, 64)
        assert pixels.dtype == torch.uint8
        for found, one in zip(pixels, data, strict=True):
            image = torch.from_numpy(decode(one).copy())
            short = min(image.shape[1:])
            side = short if whole or split == "train" else round(short * 64 / 72)
            top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
            wanted = functional.resized_crop(
                image.float(), top, left, side, side, [64, 64], antialias=True
            )
            assert (found - wanted).abs().max() < 0.51

    def test_a_damaged_image_is_named(self, store):
        paths = store({"cat": [("cat-1", "test", b"no image")]})
        with pytest.raises(StillhouseError, match="cat-1: is not a readable image"):
            load_split(paths, ["cat"], 8, "test")


def test_many_images_are_cut_in_parts(monkeypatch):
    rows = SimpleNamespace(shape=(3, 6, 6))
    pixels = [np.full(rows.shape, value % 256, np.uint8) for value in range(300)]
    found = images_module._squares(pixels, 4, True)
    assert found[:, 0, 0, 0].tolist() == [value % 256 for value in range(300)]


def test_an_image_added_since_the_index_is_noticed():
    settings = {"name": "s", "revision": 4}
    found = [catalogue.Image("a", f"i{n}", "train", b"x", "x.png") for n in range(2)]
    row = {"image_id": "i0", "sha256": hashlib.sha256(b"x").hexdigest(), "split": "train"}
    with pytest.raises(StillhouseError, match=r"'i1' of class 'a' has been added .* above 4"):
        images_module._images_table(settings, "a", found, [row])
