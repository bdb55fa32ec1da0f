import errno
import os
import shutil
import socket

import pytest
from PIL import Image as Pillow
from stillhouse.data.codecs import decode, unreadable
from stillhouse.data.sources.base import UnreadableFile
from stillhouse.data.sources.registry import open_source
from stillhouse.errors import StillhouseError

SETTINGS = {
    "kind": "image_folder",
    "name": "pets",
    "classes": ["dog", "cat"],
    "train": "train",
    "test": "val",
    "holdout": 0.0,
}
TINY = {"kind": "tiny_imagenet", "name": "tiny", "classes": ["n1", "n2"], "holdout": 0.0}


def put(root, *paths, text=""):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


@pytest.fixture
def pets(tmp_path):
    """A folder of two classes in two splits, and files that are not images of them."""
    put(tmp_path, "train/cat/b.jpg", "train/cat/a.PNG", "train/dog/z/2.JPEG", "train/dog/z/10.JPEG")
    put(tmp_path, "train/dog/1.webp", "val/cat/a.PNG", "val/dog/v.tif")
    put(tmp_path, "train/dog/list.txt", "train/cat/.a.png", "train/cow/1.png", "train/x.png")
    return tmp_path


def images(root, wanted=("cat", "dog"), **changes):
    return list(open_source({**SETTINGS, **changes}, {}, root).images(set(wanted)))


def names(actual):
    return [image.image_id for image in actual]


TRAIN = [
    *("train/dog/1.webp", "train/dog/z/10.JPEG", "train/dog/z/2.JPEG"),
    *("train/cat/a.PNG", "train/cat/b.jpg"),
]


def test_classes_are_folders_and_ids_are_paths(pets):
    actual = images(pets)
    assert names(actual) == [*TRAIN, "val/dog/v.tif", "val/cat/a.PNG"]
    assert [image.split for image in actual] == ["train"] * 5 + ["test"] * 2
    assert [image.class_id for image in actual] == ["dog"] * 3 + ["cat"] * 2 + ["dog", "cat"]
    assert all(image.data is None and image.path == image.image_id for image in actual)


def test_only_wanted_classes_are_listed(pets):
    assert names(images(pets, ["cat"])) == ["train/cat/a.PNG", "train/cat/b.jpg", "val/cat/a.PNG"]


def test_files_are_read_on_access(pets):
    put(pets, "train/cat/b.jpg", text="pixels")
    image = images(pets, ["cat"])[1]
    assert image.load(pets) == b"pixels"
    (pets / "train/cat/b.jpg").unlink()
    with pytest.raises(StillhouseError, match=r"train/cat/b\.jpg: cannot be read \(No such file"):
        image.load(pets)


def test_other_names_of_the_splits(pets):
    (pets / "val").rename(pets / "test")
    assert names(images(pets, ["cat"], test="test"))[2:] == ["test/cat/a.PNG"]
    (pets / "train").rename(pets / "deep")
    os.makedirs(pets / "a")
    (pets / "deep").rename(pets / "a/train")
    assert names(images(pets, ["cat"], train="a/train", test="test"))[0] == "a/train/cat/a.PNG"


def test_classes_may_lie_in_the_root_itself(pets):
    actual = images(pets / "train", train=".", holdout=0.5)
    assert names(actual) == [name.removeprefix("train/") for name in TRAIN]


def test_links_are_followed(pets, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (pets / "train/cat").rename(elsewhere / "cat")
    (pets / "train/cat").symlink_to(elsewhere / "cat")
    assert names(images(pets, ["cat"]))[0] == "train/cat/a.PNG"


@pytest.mark.parametrize("gone", ["", "train", "train/dog", "val/cat"])
def test_a_missing_folder_is_an_error_with_its_path(pets, gone):
    shutil.rmtree(pets / gone)
    with pytest.raises(StillhouseError) as caught:
        images(pets)
    assert str(caught.value).startswith(f"sources.pets: folder not found: {pets / gone} (")
    assert "\n" not in str(caught.value)


def test_a_missing_split_names_the_folders_beside_it(pets):
    (pets / "val").rename(pets / "test")
    with pytest.raises(StillhouseError, match=r"/val \(images of .*\); available: test, train$"):
        images(pets)
    (pets / "test").rename(pets / "Val")
    with pytest.raises(StillhouseError, match=r"/val \(images of .*\); did you mean 'Val'\?$"):
        images(pets)


def test_a_split_without_folders_of_classes_is_explained(pets):
    shutil.rmtree(pets / "val")
    put(pets, "val/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(StillhouseError, match=r"/val has no folders: sort its images into one per"):
        images(pets)


def test_a_holdout_needs_no_test_folder(pets):
    (pets / "val").rename(pets / "other")
    assert names(images(pets, holdout=0.2)) == TRAIN
    with pytest.raises(StillhouseError, match=r"folder not found: .*/val "):
        images(pets)


@pytest.mark.parametrize("name", ["a\nb.png", b"\xff.png"])
def test_an_unprintable_file_name_is_an_error(pets, name):
    path = os.path.join(os.fsencode(pets), b"train/cat", os.fsencode(name))
    with open(path, "wb"):
        pass
    with pytest.raises(StillhouseError, match="file name must be printable text") as caught:
        images(pets)
    assert "\n" not in str(caught.value)


SUPPORTED = [".jfif", ".jpe", ".jp2", ".j2k", ".avif", ".webp", ".tiff", ".pbm", ".pnm"]


def test_every_kind_of_image_is_listed_and_readable(pets):
    content = {"RGB": Pillow.new("RGB", (8, 8), (9, 8, 7)), "1": Pillow.new("1", (8, 8), 1)}
    for suffix in SUPPORTED:
        content["1" if suffix == ".pbm" else "RGB"].save(pets / f"train/cat/x{suffix}")
    listed = [image for image in images(pets, ["cat"]) if "/x." in image.image_id]
    assert sorted(names(listed)) == sorted(f"train/cat/x{suffix}" for suffix in SUPPORTED)
    for image in listed:
        assert unreadable(image.load(pets)) is None
        assert decode(image.load(pets)).shape == (3, 8, 8)


SERVICE = [
    *(".ipynb_checkpoints", "@eaDir", ".thumbnails", "__MACOSX", ".AppleDouble", "#recycle"),
    *("lost+found", "$RECYCLE.BIN", "System Volume Information", ".git"),
]


@pytest.mark.parametrize("name", SERVICE)
def test_images_in_hidden_and_service_folders_are_left_out(pets, name):
    put(pets, f"train/cat/{name}/a.png", f"train/dog/z/{name}/deep/2.JPEG")
    source = open_source(SETTINGS, {}, pets)
    assert names(source.images({"cat", "dog"}))[:5] == TRAIN
    assert source.left_out["hidden and service folders"] == 2


def test_what_is_left_out_is_counted_by_kind(pets):
    put(pets, *(f"train/cat/{name}" for name in ("1.heic", "2.HEIC", "a.svg", "README")))
    source = open_source(SETTINGS, {}, pets)
    list(source.images({"cat", "dog"}))
    assert source.left_out == {
        **{".heic": 2, ".svg": 1, ".txt": 1, "files without suffix": 1, "hidden files": 1}
    }


def test_links_to_an_enclosing_folder_are_left_out(pets):
    for name, target in (
        ("train/cat/up", ".."),
        ("train/dog/z/self", "."),
        ("train/dog/z/a", "../z"),
    ):
        (pets / name).symlink_to(target)
    (pets / "train/cat/other").symlink_to(pets / "train/dog/z")
    source = open_source(SETTINGS, {}, pets)
    actual = names(source.images({"cat", "dog"}))
    assert "train/cat/other/2.JPEG" in actual and not [one for one in actual if "/self" in one]
    # `up` leads to the class's own folder a second time.
    assert source.left_out["links to an enclosing folder"] >= 3


BROKEN = {
    "gone": (lambda path: path.symlink_to("nowhere.png"), "a link to a missing file"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "pipe": (os.mkfifo, "is a named pipe, not a file"),
    "huge": (lambda path: os.truncate(path, 2**40), "1099511627776 bytes are too many"),
    "socket": (lambda path: socket.socket(socket.AF_UNIX).bind(path.name), "is a socket, not a"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_file_is_listed_and_cannot_be_read(pets, name, monkeypatch):
    make, message = BROKEN[name]
    path = pets / "train/cat" / f"{name}.png"
    monkeypatch.chdir(path.parent)
    if name == "huge":
        path.touch()
    make(path)
    (image,) = [one for one in images(pets, ["cat"]) if name in one.image_id]
    with pytest.raises(UnreadableFile, match=message) as caught:
        image.load(pets)
    assert str(caught.value).startswith(f"{path}: cannot be read (")
    assert "\n" not in str(caught.value)


def test_folders_nested_without_end_are_an_error(pets):
    put(pets, f"train/cat/{'d/' * 150}x.png")
    with pytest.raises(StillhouseError, match=r"must be at most 100 folders deep$"):
        images(pets)


def test_a_class_in_another_unicode_form_is_explained(pets):
    put(pets, "train/e\u0301lan/a.png", "val/e\u0301lan/a.png")
    with pytest.raises(StillhouseError, match=r"folder not found.*Unicode form NFC or NFD"):
        images(pets, ["\u00e9lan"], classes=["\u00e9lan"])
    assert names(images(pets, ["e\u0301lan"], classes=["e\u0301lan"]))


@pytest.mark.parametrize(("class_id", "near"), [("Dog", "dog"), ("cats", "cat")])
def test_a_class_of_a_similar_name_is_suggested(pets, class_id, near):
    with pytest.raises(StillhouseError, match=f"did you mean '{near}'\\?"):
        images(pets, [class_id], classes=[class_id])


def test_a_folder_without_permission_is_an_error(pets, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(
        StillhouseError, match=r"folder cannot be read: .*dog \(Permission denied\)$"
    ):
        images(pets)


@pytest.fixture
def tiny(tmp_path):
    """A small folder with Tiny-ImageNet's layout."""
    for class_id in ("n2", "n1", "n3"):
        put(tmp_path, *(f"train/{class_id}/images/{class_id}_{i}.JPEG" for i in range(2)))
        put(tmp_path, f"train/{class_id}/{class_id}_boxes.txt")
    rows = [("val_0.JPEG", "n2"), ("val_2.JPEG", "n1"), ("val_1.JPEG", "n3"), ("val_3.JPEG", "n1")]
    put(tmp_path, *(f"val/images/{name}" for name, _ in rows))
    put(
        tmp_path,
        "val/val_annotations.txt",
        text="".join(f"{name}\t{class_id}\t0\t0\t63\t62\n" for name, class_id in rows),
    )
    return tmp_path


def tiny_images(root, wanted=("n1", "n2")):
    return list(open_source(TINY, {}, root).images(set(wanted)))


def test_validation_images_have_the_classes_of_the_annotations(tiny):
    actual = [(image.class_id, image.split, image.image_id) for image in tiny_images(tiny)]
    assert actual == [
        ("n1", "train", "train/n1/images/n1_0.JPEG"),
        ("n1", "train", "train/n1/images/n1_1.JPEG"),
        ("n2", "train", "train/n2/images/n2_0.JPEG"),
        ("n2", "train", "train/n2/images/n2_1.JPEG"),
        ("n2", "test", "val/images/val_0.JPEG"),
        ("n1", "test", "val/images/val_2.JPEG"),
        ("n1", "test", "val/images/val_3.JPEG"),
    ]
    assert [image.class_id for image in tiny_images(tiny, ["n2"])] == ["n2"] * 3


def test_with_a_holdout_tiny_imagenet_may_lack_its_validation_images(tiny):
    shutil.rmtree(tiny / "val")
    actual = list(open_source({**TINY, "holdout": 0.5}, {}, tiny).images({"n1", "n2"}))
    assert [image.split for image in actual] == ["train"] * 4
    with pytest.raises(StillhouseError, match=r"file not found: .*val_annotations\.txt"):
        tiny_images(tiny)


def test_tiny_imagenet_without_annotations_is_an_error(tiny):
    path = tiny / "val/val_annotations.txt"
    path.unlink()
    with pytest.raises(StillhouseError, match="kind: image_folder") as caught:
        tiny_images(tiny)
    assert str(caught.value).startswith(f"sources.tiny: file not found: {path}; ")


@pytest.mark.parametrize("line", ["val_4.JPEG n1", "../x.JPEG\tn1", ""])
def test_an_invalid_annotation_is_an_error_with_its_line(tiny, line):
    with open(tiny / "val/val_annotations.txt", "a") as stream:
        stream.write(line + "\n")
    with pytest.raises(StillhouseError, match=r"val_annotations\.txt: line 5: invalid") as caught:
        tiny_images(tiny)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.write_bytes(b"\xff\xfe")])
def test_annotations_that_are_no_text_are_an_error(tiny, make):
    path = tiny / "val/val_annotations.txt"
    path.unlink()
    make(path)
    with pytest.raises(StillhouseError, match=r"val_annotations\.txt: is ") as caught:
        tiny_images(tiny)
    assert "\n" not in str(caught.value)


def test_annotations_of_windows_are_read(tiny):
    path = tiny / "val/val_annotations.txt"
    lines = path.read_text().splitlines()
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    assert len(tiny_images(tiny)) == 7
