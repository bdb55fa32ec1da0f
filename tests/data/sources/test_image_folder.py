import os
import shutil

import pytest
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
