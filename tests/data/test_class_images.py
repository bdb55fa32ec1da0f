import hashlib
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as Pillow
from stillhouse.artifacts import formats, jobs, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.stages import IMAGES, INDEX
from stillhouse.data import class_images as images_module
from stillhouse.data import index as index_module
from stillhouse.data import splits
from stillhouse.data.class_images import count_images, read_class
from stillhouse.data.codecs import decode
from stillhouse.data.sources.base import Image
from stillhouse.data.sources.parquet_files import ParquetFiles
from stillhouse.data.splits import load_split
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
    """A source of Parquet files in a folder, its artifacts, and their jobs."""

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
            "on_bad_image": "error",
            **settings,
        }
        self.index = Artifact(INDEX, "pets", self.settings)
        self.images = Artifact(IMAGES, "pets", {}, {"index": self.index})

    def write(self, split, rows):
        data = pa.array([picture(value) for value, _ in rows], pa.binary())
        table = pa.table({"image": data, "label": [label for _, label in rows]})
        pq.write_table(table, self.files[split][0])

    def make_index(self, **resources):
        jobs.produce(INDEX, self.files, self.index.spec(), (), resources)
        return store.read_table(self.index.file).to_pylist()

    def make_images(self, *classes, **resources):
        inputs = {**self.files, "index": Path(self.index.file)}
        jobs.produce(IMAGES, inputs, self.images.spec(), classes, resources)
        return [self.path(class_id) for class_id in classes]

    def path(self, class_id):
        return Path(self.images.member_file(class_id))


@pytest.fixture
def pets(empty):
    return Pets(empty)


def test_images_are_stored_unchanged_per_class(pets):
    pets.make_index()
    paths = pets.make_images("hen", "cat")
    rows = store.read_table(paths[1]).to_pylist()
    assert {row["class_id"] for row in rows} == {"cat"}
    assert [row["image"]["bytes"] for row in rows] == [
        picture(value) for value in [*range(0, 30, 3), 100, 103]
    ]
    assert list(read_class(paths[0], "test")) == [
        ("test-0000002", picture(102)),
        ("test-0000005", picture(105)),
    ]
    assert len(read_class(paths[0], "train")) == count_images(paths[0], "train") == 10


def test_a_job_reads_the_source_once(pets, monkeypatch):
    pets.make_index()
    passes, original = [], ParquetFiles.images

    def counted(self, wanted):
        passes.append(wanted)
        return original(self, wanted)

    monkeypatch.setattr(ParquetFiles, "images", counted)
    pets.make_images(*CLASSES)
    assert passes == [set(CLASSES)]


def test_classes_do_not_depend_on_the_other_classes_of_a_job(pets):
    pets.make_index()
    together = [path.read_bytes() for path in pets.make_images(*CLASSES)]
    alone = []
    for class_id in CLASSES:
        pets.path(class_id).unlink()
        alone += [path.read_bytes() for path in pets.make_images(class_id)]
    assert alone == together


def test_images_do_not_depend_on_the_size_of_row_groups(pets, monkeypatch):
    pets.make_index()
    (path,) = pets.make_images("dog")
    before = list(read_class(path, "train"))
    assert pq.ParquetFile(path).num_row_groups == 1
    path.unlink()
    monkeypatch.setattr(images_module, "GROUP_BYTES", 3 * len(picture(1)))
    monkeypatch.setattr(formats, "BATCH_BYTES", 2 * len(picture(1)))
    pets.make_images("dog")
    assert pq.ParquetFile(path).num_row_groups == 4
    assert list(read_class(path, "train")) == before


def test_the_memory_of_an_index_does_not_grow_with_the_images(pets, monkeypatch):
    sizes, pool_map = [], ThreadPoolExecutor.map

    def counted(self, function, images, rows):
        sizes.append(sum(len(image.data) for image in images))
        return pool_map(self, function, images, rows)

    rows = pets.make_index()
    Path(pets.index.file).unlink()
    monkeypatch.setattr(ThreadPoolExecutor, "map", counted)
    monkeypatch.setattr(index_module, "CHUNK_BYTES", 400)
    assert pets.make_index() == rows
    assert len(sizes) > 6 and max(sizes) < 400 + len(picture(1))


@pytest.mark.slow
def test_a_class_of_more_than_two_gigabytes_is_read(empty):
    content = [bytes([i]) + bytes(2**25) for i in range(66)]
    rows = [
        {
            "image": {"bytes": one, "path": "x"},
            "class_id": "a",
            "image_id": f"{i:02d}",
            "split": "train",
        }
        for i, one in enumerate(content)
    ]
    groups = images_module._row_groups(rows)
    schema = images_module.IMAGES_SCHEMA
    tables = formats.RowGroups(schema, (pa.Table.from_pylist(g, schema=schema) for g in groups))
    store.write("a", {"stage": "images", "address": "a"}, {"images.parquet": tables})
    assert [data for _, data in read_class(Path("a/images.parquet"), "train")] == content


def changed(value):
    return [(value if i == 4 else i, i % 3) for i in range(30)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(999), "image 'train-0000004' of class 'dog' was changed"),
        (changed(4)[:28], "image 'train-0000028' of class 'dog' was removed"),
        ([(i, 2 if i == 4 else i % 3) for i in range(30)], "'train-0000004'.* was removed"),
    ],
    ids=["changed", "removed", "relabelled"],
)
def test_a_source_that_has_changed_is_an_error(pets, rows, message):
    pets.make_index()
    pets.write("train", rows)
    with pytest.raises(StillhouseError, match=message) as caught:
        pets.make_images("dog")
    assert "raise sources.pets.revision above 4" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not pets.path("dog").exists()


def test_unused_images_are_not_stored(empty):
    pets = Pets(empty, holdout=0.3)
    pets.make_index()
    (path,) = pets.make_images("dog")
    rows = store.read_table(path).to_pylist()
    assert sorted(row["split"] for row in rows) == ["test"] * 3 + ["train"] * 7
    assert all(row["image_id"].startswith("train-") for row in rows)


def test_a_truncated_index_is_an_error(pets):
    pets.make_index()
    path = Path(pets.index.file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(store.Damaged, match=r"index\.parquet"):
        pets.make_images("cat")


class TestLoadSplit:
    @pytest.fixture
    def stored(self, empty):
        """Return a function that stores images of classes as the stage `images` does."""

        def stored(of_class):
            artifact, paths = Artifact(IMAGES, "pets", {}), {}
            for class_id, rows in of_class.items():
                spec = artifact.member_spec(class_id)
                table = pa.table(
                    {
                        "image": [{"bytes": data, "path": name} for name, _, data in rows],
                        "class_id": [class_id] * len(rows),
                        "image_id": [name for name, _, _ in rows],
                        "split": [split for _, split, _ in rows],
                    },
                    schema=images_module.IMAGES_SCHEMA,
                )
                store.write(spec["address"], spec, {"images.parquet": table})
                paths[class_id] = Path(artifact.member_file(class_id))
            return paths

        return stored

    def test_labels_follow_the_given_order_and_rows_their_ids(self, stored):
        cat = [("b", "test", picture(1)), ("a", "test", picture(2)), ("c", "train", picture(3))]
        dog = [("a", "test", picture(4))]
        paths = stored({"dog": dog, "cat": cat})
        pixels, labels = load_split(paths, ["cat", "dog"], 2, "test")
        assert labels.tolist() == [0, 0, 1]
        assert labels.dtype == torch.int64
        # The middle of 3 × 2 pixels.
        expected = [decode(picture(value))[:, :, :2] for value in (2, 1, 4)]
        np.testing.assert_array_equal(pixels.numpy(), expected)
        reordered, labels = load_split(paths, ["dog", "cat"], 2, "test")
        assert labels.tolist() == [0, 1, 1]
        assert torch.equal(reordered[0], pixels[2])

    @pytest.mark.parametrize(
        ("split", "whole"), [("test", False), ("test", True), ("train", False)]
    )
    def test_pixels_are_those_of_torchvision(self, stored, split, whole):
        sizes = [(64, 64), (90, 70), (30, 41), (64, 64), (40, 40)]
        data = [picture(i, size) for i, size in enumerate(sizes)]
        paths = stored({"cat": [(str(i), split, encoded) for i, encoded in enumerate(data)]})
        pixels, _ = load_split(paths, ["cat"], 64, split, whole=whole)
        assert pixels.shape == (5, 3, 64, 64)
        assert pixels.dtype == torch.uint8
        for loaded, encoded in zip(pixels, data, strict=True):
            image = torch.from_numpy(decode(encoded).copy())
            short = min(image.shape[1:])
            side = short if whole or split == "train" else round(short * 64 / 72)
            top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
            expected = functional.resized_crop(
                image.float(), top, left, side, side, [64, 64], antialias=True
            )
            assert (loaded - expected).abs().max() < 0.51

    def test_the_memory_is_that_of_the_split(self, stored):
        paths = stored({f"c{i}": [("a", "test", picture(i))] for i in range(60)})
        load_split(paths, ["c0"], 512, "test")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present memory
        before = peak_kib()
        pixels, _ = load_split(paths, list(paths), 512, "test")
        assert 1024 * (peak_kib() - before) < 1.4 * pixels.nbytes

    def test_a_damaged_image_is_an_error_with_its_id(self, stored):
        paths = stored({"cat": [("cat-1", "test", b"no image")]})
        with pytest.raises(StillhouseError, match="cat-1: not a readable image"):
            load_split(paths, ["cat"], 8, "test")


def peak_kib():
    """Return the largest memory of this process so far [KiB]."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def test_more_images_than_a_batch_are_all_resized():
    pixels = [np.full((3, 6, 6), value % 256, np.uint8) for value in range(300)]
    resized = splits.squares(pixels, 4, True)
    assert resized[:, 0, 0, 0].tolist() == [value % 256 for value in range(300)]


def test_an_image_added_after_indexing_is_an_error():
    settings = {"name": "s", "revision": 4}
    actual = [Image("a", f"i{n}", "train", b"x", "x.png") for n in range(2)]
    row = {"image_id": "i0", "sha256": hashlib.sha256(b"x").hexdigest(), "split": "train"}
    with pytest.raises(StillhouseError, match=r"'i1' of class 'a' was added .* above 4"):
        images_module._class_rows(settings, "a", actual, [row])
