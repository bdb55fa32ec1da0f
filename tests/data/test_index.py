import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stillhouse.artifacts import store
from stillhouse.data import index
from stillhouse.data.class_images import read_class
from stillhouse.data.index import skipped_images
from stillhouse.data.sources import registry
from stillhouse.data.sources.parquet_files import ParquetFiles
from stillhouse.errors import StillhouseError
from stillhouse.reporting import notes

from tests.data.test_class_images import CLASSES, Pets, picture


@pytest.fixture
def pets(empty):
    return Pets(empty)


def test_the_index_lists_every_image_with_its_checksum(pets):
    rows = pets.make_index()
    assert len(rows) == 36
    assert rows[4] == {
        "class_id": "dog",
        "image_id": "train-0000004",
        "split": "train",
        "bytes": len(picture(4)),
        "sha256": hashlib.sha256(picture(4)).hexdigest(),
    }
    assert [row["split"] for row in rows] == ["train"] * 30 + ["test"] * 6


def test_a_duplicate_image_id_is_an_error(pets, monkeypatch):
    class Duplicates(ParquetFiles):
        def images(self, wanted):
            for image in super().images(wanted):
                yield image
                if image.image_id == "test-0000003":
                    yield image

    monkeypatch.setattr(registry, "ParquetFiles", Duplicates)
    with pytest.raises(StillhouseError, match=r"sources\.pets: duplicate image id 'test-0000003'"):
        pets.make_index()


def test_a_class_without_images_is_an_error(empty):
    pets = Pets(empty, classes=[*CLASSES, "pig"])
    with pytest.raises(StillhouseError, match=r"sources\.pets: class 'pig' has no training image"):
        pets.make_index()


def test_the_size_of_the_smallest_class_is_checked(pets):
    pets.write("train", [(i, i % 3) for i in range(29)])
    with pytest.raises(StillhouseError, match=r"smallest_class: must be at most 9, .* not 10"):
        pets.make_index(smallest_class=10)
    assert len(pets.make_index(smallest_class=9)) == 35


def test_a_holdout_replaces_the_test_split(empty):
    plain = Pets(empty).make_index()
    held = Pets(empty, holdout=0.3).make_index()
    for class_id in CLASSES:
        of = [(a, b) for a, b in zip(plain, held, strict=True) if a["class_id"] == class_id]
        assert [b["split"] for a, b in of if a["split"] == "test"] == ["unused"] * 2
        trained = [b["split"] for a, b in of if a["split"] == "train"]
        assert sorted(trained) == ["test"] * 3 + ["train"] * 7
    more = Pets(empty, holdout=0.6).make_index()
    taken = [{row["image_id"] for row in rows if row["split"] == "test"} for rows in (held, more)]
    assert taken[0] < taken[1]


class Folder(Pets):
    """The same as a folder of image files."""

    def __init__(self, folder, **settings):
        super().__init__(folder, kind="image_folder", train="train", test="val", **settings)
        self.source_roots = {"pets": str(folder)}
        self.files = {}

    def write(self, split, rows):
        for value, label in rows:
            folder = self.folder / {"test": "val"}.get(split, split) / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{value:03d}.png").write_bytes(picture(value))

    def make_index(self, **resources):
        return super().make_index(source_roots=self.source_roots, **resources)


@pytest.fixture
def tree(empty):
    return Folder(empty)


def test_the_index_does_not_depend_on_the_number_of_threads(tree):
    rows = tree.make_index()
    assert rows[10] == {
        "class_id": "dog",
        "image_id": "train/dog/001.png",
        "split": "train",
        "bytes": len(picture(1)),
        "sha256": hashlib.sha256(picture(1)).hexdigest(),
    }
    path = Path(tree.index.file)
    alone = path.read_bytes()
    path.unlink()
    assert tree.make_index(index_threads=5) == rows
    assert path.read_bytes() == alone


def test_the_index_does_not_depend_on_the_chunk_size(tree, monkeypatch):
    rows = tree.make_index()
    path = Path(tree.index.file)
    assert pq.ParquetFile(path).num_row_groups == 1
    path.unlink()
    monkeypatch.setattr(index, "CHUNK", 5)
    monkeypatch.setattr(index, "ROW_GROUP", 8)
    assert tree.make_index() == rows
    assert pq.ParquetFile(path).num_row_groups == 5


class Killed(Exception):
    """The end of an incomplete job."""


@pytest.fixture
def repairable(tree):
    """The same with an unreadable image, which is skipped."""
    tree.settings["on_bad_image"] = "skip"
    (tree.folder / "train/cat/006.png").write_bytes(b"no image")
    return tree


@pytest.fixture
def killed(tree, monkeypatch):
    """Kill an index job after 17 images, and count those that are read from then on."""
    row, read = index._row, []

    def counted(image, settings, context):
        if len(read) == 17:
            raise Killed
        read.append(image.image_id)
        return row(image, settings, context)

    monkeypatch.setattr(index, "CHUNK", 5)
    monkeypatch.setattr(index, "_row", counted)
    with pytest.raises(Killed):
        tree.make_index(checkpoint_seconds=0.0)
    read[:] = [None] * 100
    return read


def resumed(tree, read):
    del read[:]
    read += [None] * 18
    rows = tree.make_index(checkpoint_seconds=0.0)
    return rows, read[18:]


def test_a_killed_index_resumes_from_its_checkpoint(tree, killed):
    rows, read = resumed(tree, killed)
    assert len(rows) == 36
    assert read == [row["image_id"] for row in rows[15:]]
    assert rows[3]["sha256"] == hashlib.sha256(picture(9)).hexdigest()
    assert not list((tree.folder / "results/.work").glob("index-*"))


def test_a_checkpoint_of_another_list_of_images_is_not_used(tree, killed):
    (tree.folder / "train/cat/004.png").write_bytes(picture(77))
    rows, read = resumed(tree, killed)
    assert [row["image_id"] for row in rows[:4]] == [
        *("train/cat/000.png", "train/cat/003.png", "train/cat/004.png", "train/cat/006.png"),
    ]
    assert len(rows) == len(read) == 37


def test_a_resumed_index_reads_unreadable_images_again(repairable, killed):
    (repairable.folder / "train/cat/006.png").write_bytes(picture(6))
    rows, read = resumed(repairable, killed)
    assert read == ["train/cat/006.png", *(row["image_id"] for row in rows[15:])]
    assert len(rows) == 36
    assert rows[2]["sha256"] == hashlib.sha256(picture(6)).hexdigest()
    table = store.read_table(repairable.index.file)
    assert skipped_images(table.schema) == []


def test_a_resumed_index_reads_files_of_another_size_again(tree, killed):
    data = picture(6) + b"more"
    (tree.folder / "train/cat/006.png").write_bytes(data)
    rows, read = resumed(tree, killed)
    assert read == ["train/cat/006.png", *(row["image_id"] for row in rows[15:])]
    assert rows[2]["bytes"] == len(data)
    assert rows[2]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:]]
)
def test_a_damaged_checkpoint_and_later_ones_are_recomputed(tree, killed, capsys, damage):
    parts = sorted((tree.folder / "results/.work").glob("index-*/part-*.parquet"))
    assert len(parts) == 3
    parts[1].write_bytes(damage(parts[1].read_bytes()))
    rows, read = resumed(tree, killed)
    assert len(rows) == 36
    assert len(read) == 31
    assert f"{parts[1].name}: damaged" in capsys.readouterr().out


def test_an_unreadable_image_is_an_error_with_its_path(tree):
    bad = tree.folder / "train/dog/013.png"
    bad.write_bytes(picture(13)[:40])
    with pytest.raises(StillhouseError) as caught:
        tree.make_index()
    assert str(caught.value).startswith(f"{bad}: not a readable image (")
    assert str(caught.value).endswith("sources.pets.on_bad_image: skip")
    assert "\n" not in str(caught.value)


def test_an_unreadable_image_of_a_parquet_file_is_an_error_with_its_id(pets):
    data = [picture(i) if i != 4 else b"no image" for i in range(30)]
    labels = [i % 3 for i in range(30)]
    pq.write_table(pa.table({"image": data, "label": labels}), pets.files["train"][0])
    with pytest.raises(StillhouseError, match=r"^image 'train-0000004': not a readable image"):
        pets.make_index()


def test_rows_without_bytes_are_skipped_and_counted(empty):
    pets = Pets(empty, on_bad_image="skip")
    data = [None if i == 4 else b"" if i == 6 else picture(i) for i in range(30)]
    table = pa.table({"image": data, "label": [i % 3 for i in range(30)]})
    pq.write_table(table, pets.files["train"][0])
    assert len(pets.make_index()) == 34
    table = store.read_table(pets.index.file)
    skipped = [row["image_id"] for row in skipped_images(table.schema)]
    assert skipped == ["train-0000004", "train-0000006"]
    (path,) = pets.make_images("dog")
    assert len(read_class(path, "train")) == 9


@pytest.mark.parametrize("kind", [Pets, Folder])
def test_unreadable_images_are_skipped_and_counted(empty, kind):
    pets = kind(empty, on_bad_image="skip")
    if kind is Pets:
        data = [picture(i) if i != 4 else b"no image" for i in range(30)]
        labels = [i % 3 for i in range(30)]
        pq.write_table(pa.table({"image": data, "label": labels}), pets.files["train"][0])
        bad = "train-0000004"
    else:
        bad = "train/dog/004.png"
        (empty / bad).write_bytes(b"")
    rows = pets.make_index()
    assert len(rows) == 35
    assert bad not in {row["image_id"] for row in rows}
    table = store.read_table(pets.index.file)
    (skipped,) = skipped_images(table.schema)
    assert (skipped["class_id"], skipped["image_id"]) == ("dog", bad)
    assert "cannot identify" in skipped["problem"]
    note = f"Unreadable images of source {pets.index.settings['name']} that were skipped: 1."
    assert notes.unreadable_notes([Path(pets.index.file)]) == [note]
    # Stored images do not include it.
    roots = {"source_roots": pets.source_roots} if kind is Folder else {}
    (path,) = pets.make_images("dog", **roots)
    assert len(read_class(path, "train", {"pets": str(empty)})) == 9


def test_a_class_without_readable_images_is_an_error(empty):
    tree = Folder(empty, on_bad_image="skip")
    for path in (empty / "train/hen").iterdir():
        path.write_bytes(b"no image")
    message = r"sources\.pets: class 'hen' has no training image \(left out: 10 unreadable\)$"
    with pytest.raises(StillhouseError, match=message):
        tree.make_index()


def test_a_test_split_without_a_class_is_an_error(tree):
    for path in (tree.folder / "val/cat").iterdir():
        path.unlink()
    with pytest.raises(StillhouseError, match=r"sources\.pets: class 'cat' has no test image"):
        tree.make_index()


def test_one_folder_for_both_splits_is_an_error(empty):
    tree = Folder(empty)
    tree.settings["test"] = "train"
    with pytest.raises(StillhouseError, match=r"duplicate image id 'train/cat/000\.png'"):
        tree.make_index()


def test_files_by_reference_are_checked_on_reading(tree):
    tree.make_index()
    (path,) = tree.make_images("dog", source_roots=tree.source_roots)
    rows = store.read_table(path).to_pylist()
    assert rows[0] == {
        "image": {"bytes": None, "path": "train/dog/001.png"},
        "class_id": "dog",
        "image_id": "train/dog/001.png",
        "split": "train",
        "bytes": len(picture(1)),
        "sha256": hashlib.sha256(picture(1)).hexdigest(),
    }
    assert list(read_class(path, "test", tree.source_roots)) == [
        ("val/dog/101.png", picture(101)),
        ("val/dog/104.png", picture(104)),
    ]
    changed = tree.folder / "train/dog/004.png"
    changed.write_bytes(picture(5))
    actual = read_class(path, "train", tree.source_roots)
    assert actual[0] == ("train/dog/001.png", picture(1))
    with pytest.raises(
        StillhouseError, match=r"'train/dog/004\.png' of class 'dog' was changed"
    ) as e:
        actual[1]
    assert "raise sources.pets.revision above 4" in str(e.value)
    changed.unlink()
    with pytest.raises(StillhouseError, match=r"^.*train/dog/004\.png: cannot be read \(No such"):
        list(actual)


@pytest.mark.parametrize(("change", "what"), [("add", "added"), ("remove", "removed")])
def test_added_and_removed_files_are_an_error(tree, change, what):
    tree.make_index()
    path = tree.folder / "train/dog/004.png"
    path.with_name("005.png").write_bytes(picture(5)) if change == "add" else path.unlink()
    with pytest.raises(StillhouseError, match=rf"of class 'dog' was {what} after"):
        tree.make_images("dog", source_roots=tree.source_roots)
    tree.make_images("cat", source_roots=tree.source_roots)


BROKEN = {
    "gone": lambda path: path.symlink_to("nowhere.png"),
    "loop": lambda path: path.symlink_to(path.name),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_links_and_pipes_are_unreadable_images(empty, kind):
    tree = Folder(empty)
    path = empty / "train/dog/900.png"
    BROKEN[kind](path)
    with pytest.raises(StillhouseError, match=rf"^{path}: not a readable image \(.*: skip$"):
        tree.make_index()
    tree = Folder(empty, on_bad_image="skip")
    assert len(tree.make_index()) == 36
    (skipped,) = skipped_images(store.read_table(tree.index.file).schema)
    assert skipped["image_id"] == "train/dog/900.png"
    (stored,) = tree.make_images("dog", source_roots=tree.source_roots)
    assert len(read_class(stored, "train", tree.source_roots)) == 10


def test_files_that_are_left_out_are_counted_in_the_index(tree, capsys):
    (tree.folder / "train/dog/901.heic").write_bytes(b"x")
    tree.make_index()
    metadata = store.open_row_groups(tree.index.file).schema_arrow.metadata
    assert json.loads(metadata[b"left_out"]) == {".heic": 1}
    assert "left out: 1 .heic" in capsys.readouterr().out


def test_a_class_of_unsupported_files_alone_names_them(tree):
    for path in sorted((tree.folder / "train/hen").iterdir()):
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(
        StillhouseError, match=r"'hen' has no training image \(left out: 10 .heic\)"
    ):
        tree.make_index()


def test_a_placeholder_of_git_is_named(tree):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    (tree.folder / "train/dog/001.png").write_bytes(pointer)
    with pytest.raises(StillhouseError, match="a Git LFS pointer; run `git lfs pull`"):
        tree.make_index()
