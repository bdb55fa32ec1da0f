import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError

CLASSES = ["cat", "dog", "hen"]


def png(value):
    buffer = io.BytesIO()
    Pillow.new("RGB", (2, 2), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def structs(values):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": png(v), "path": f"{v}.png"} for v in values], kind)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a Parquet file of a column of images and one of labels."""

    def write(name, images, labels, columns=("image", "label"), metadata=None, rows=1000):
        schema_metadata = {"huggingface": json.dumps(metadata)} if metadata else None
        table = pa.table(dict(zip(columns, (images, labels), strict=True)))
        path = tmp_path / name
        pq.write_table(table.replace_schema_metadata(schema_metadata), path, row_group_size=rows)
        return path

    return write


def settings(**changes):
    return {
        "kind": "parquet",
        "name": "pets",
        "classes": CLASSES,
        "image_column": "image",
        "label_column": "label",
        "revision": 1,
        "holdout": 0.0,
        **changes,
    }


def images(train, test, wanted=CLASSES, **changes):
    source = catalogue.open_source(settings(**changes), {"train": train, "test": test})
    return list(source.images(set(wanted)))


def brief(found):
    return [(image.class_id, image.split, image.image_id, image.data) for image in found]


def test_structs_of_bytes_with_numbered_labels(write):
    train = [write("a.parquet", structs([1, 2, 3]), [2, 0, 2])]
    test = [write("b.parquet", structs([4]), [1])]
    found = images(train, test)
    assert brief(found) == [
        ("hen", "train", "train-0000000", png(1)),
        ("cat", "train", "train-0000001", png(2)),
        ("hen", "train", "train-0000002", png(3)),
        ("dog", "test", "test-0000000", png(4)),
    ]
    assert found[0].path == "1.png"


def test_plain_bytes_with_labels_as_text(write):
    path = write("a.parquet", pa.array([png(1), png(2)], pa.binary()), ["hen", "cat"])
    found = images([path], [path])
    assert [image.class_id for image in found] == ["hen", "cat"] * 2
    assert found[0].data == png(1)
    assert found[0].path == "train-0000000"


def test_image_ids_count_over_row_groups_and_files(write):
    labels = [0, 1, 0, 1, 0]
    first = write("a.parquet", structs(range(5)), labels, rows=2)
    second = write("b.parquet", structs(range(5, 10)), labels, rows=3)
    found = images([first, second], [first])
    ids = [image.image_id for image in found if image.split == "train"]
    assert ids == [f"train-{i:07d}" for i in range(10)]
    assert [image.data for image in found[:10]] == [png(i) for i in range(10)]


def test_ids_do_not_depend_on_the_classes_wanted(write):
    path = write("a.parquet", structs(range(6)), [0, 1, 2, 0, 1, 2], rows=2)
    whole = {image.image_id: image for image in images([path], [path])}
    some = images([path], [path], ["dog"])
    assert [image.image_id for image in some if image.split == "train"] == [
        "train-0000001",
        "train-0000004",
    ]
    assert all(whole[image.image_id] == image for image in some)


def test_other_column_names(write):
    path = write("a.parquet", structs([1]), [0], ("img", "fine_label"))
    found = images([path], [path], image_column="img", label_column="fine_label")
    assert found[0].class_id == "cat"


def test_classes_in_the_order_of_the_files_own_metadata(write):
    metadata = {"info": {"features": {"label": {"_type": "ClassLabel", "names": CLASSES}}}}
    path = write("a.parquet", structs([1]), [2], metadata=metadata)
    assert images([path], [path])[0].class_id == "hen"


def wrong_label(write, labels, **changes):
    path = write("a.parquet", structs(range(len(labels))), labels)
    return [path], [path], changes


def other_order(write):
    features = {"label": {"_type": "ClassLabel", "names": ["dog", "cat", "hen"]}}
    path = write("a.parquet", structs([1]), [0], metadata={"info": {"features": features}})
    return [path], [path], {}


def no_bytes(write, image):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path = write("a.parquet", pa.array([{"bytes": png(1)}, image], kind), [0, 1])
    return [path], [path], {}


def not_parquet(write):
    path = write("a.parquet", structs([1]), [0])
    path.write_bytes(b"image,label\n")
    return [path], [path], {}


def cut_short(write):
    path = write("a.parquet", structs([1]), [0])
    path.write_bytes(path.read_bytes()[:-20])
    return [path], [path], {}


def gone(write):
    path = write("a.parquet", structs([1]), [0])
    return [path.with_name("b.parquet")], [path], {}


def of_numbers(write):
    path = write("a.parquet", pa.array([[1, 2]]), [0])
    return [path], [path], {}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (lambda w: wrong_label(w, [0, 3]), "label 3 is none of the source's 3 classes"),
        (lambda w: wrong_label(w, [0, -1]), "label -1 is none of"),
        (lambda w: wrong_label(w, [0.0, 1.5]), "label 0.0 is none of"),
        (lambda w: wrong_label(w, ["cat", "cow"]), "label 'cow' is none of"),
        (lambda w: wrong_label(w, [0, None]), "label None is none of"),
        (lambda w: wrong_label(w, ["cat", None]), "label 'cat' is none of|label None is none of"),
        (
            lambda w: wrong_label(w, [0], image_column="img"),
            "has no column 'img', only image, label; name the right one under "
            r"sources\.pets\.image_column",
        ),
        (lambda w: wrong_label(w, [0], label_column="y"), r"'y'.*sources\.pets\.label_column"),
        (lambda w: no_bytes(w, None), "row 1 has no bytes in column 'image'"),
        (lambda w: no_bytes(w, {"path": "x.png"}), "row 1 has no bytes in column 'image'"),
        (lambda w: no_bytes(w, {"bytes": b""}), "row 1 has no bytes"),
        (of_numbers, "row 0 has no bytes"),
        (other_order, "metadata give the class order dog, cat, hen; sources.pets.classes"),
        (gone, r"b\.parquet: is not there; it is named under sources\.pets"),
        (not_parquet, r"a\.parquet: is not a Parquet file; it is named under sources\.pets"),
        (cut_short, r"a\.parquet: is not a Parquet file"),
    ],
)
def test_what_cannot_be_read_gets_one_line(write, tmp_path, case, message):
    train, test, changes = case(write)
    with pytest.raises(StillhouseError, match=message) as caught:
        images(train, test, **changes)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("image", [None, {"path": "x.png"}, {"bytes": b"", "path": "x.png"}])
def test_a_row_without_bytes_is_one_more_bad_image(write, image):
    train, test, _ = no_bytes(write, image)
    found = images(train, test, on_bad_image="skip")
    assert [image.data for image in found] == [png(1), b""] * 2
    assert found[1].image_id == "train-0000001"


def test_a_column_of_something_else_is_no_column_of_bad_images(write):
    train, test, _ = of_numbers(write)
    with pytest.raises(StillhouseError, match="row 0 has no bytes in column 'image'"):
        images(train, test, on_bad_image="skip")


def test_digits_are_all_there_once():
    found = list(catalogue.Digits().images(set(catalogue.DIGITS)))
    assert len(found) == 1797
    assert len({image.image_id for image in found}) == 1797
    counts = {c: [0, 0] for c in catalogue.DIGITS}
    for image in found:
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
    assert min(train for train, _ in counts.values()) == catalogue.DIGITS_SMALLEST


def test_digits_keep_their_ids_and_splits():
    some = {image.image_id: image for image in catalogue.Digits().images({"8", "3"})}
    whole = {image.image_id: image for image in catalogue.Digits().images(set(catalogue.DIGITS))}
    assert len(some) == 183 + 174
    assert all(whole[name] == image for name, image in some.items())
    trained = [i.image_id for i in some.values() if (i.class_id, i.split) == ("3", "train")]
    assert trained[:4] == ["digits-0003", "digits-0013", "digits-0023", "digits-0045"]


def test_digits_are_scikit_learns_pixels():
    from sklearn.datasets import load_digits

    digits = load_digits()
    for image in catalogue.Digits().images({"5"}):
        row = int(image.image_id.removeprefix("digits-"))
        assert digits.target[row] == 5
        pixels = np.asarray(Pillow.open(io.BytesIO(image.data)), float)
        assert np.abs(pixels / 255 * 16 - digits.images[row]).max() <= 8 / 255


@pytest.mark.parametrize(("holdout", "left"), [(0.0, 116), (0.25, 87), (0.5, 58), (0.99, 1)])
def test_a_holdout_makes_the_smallest_class_smaller(holdout, left):
    assert catalogue.smallest_class({"kind": "digits", "holdout": holdout}) == left


def test_the_smallest_class_is_what_the_config_says_where_it_says():
    cifar = {"kind": "torchvision", "set": "CIFAR10", "holdout": 0.0}
    assert catalogue.smallest_class(cifar) == 5000
    assert catalogue.smallest_class({**cifar, "smallest_class": 40, "holdout": 0.25}) == 30
    assert catalogue.classes(cifar)[:2] == ("airplane", "automobile")


def test_where_files_lie_and_who_may_fetch_them_is_in_no_address():
    plain = {"kind": "torchvision", "set": "MNIST", "revision": 1, "holdout": 0.0}
    given = {**plain, "root": "a", "download": True, "smallest_class": 3, "classes_per_block": 2}
    assert catalogue.shaping("digits", given) == {"name": "digits", **plain}


def test_leaving_out_bad_images_is_in_the_address_and_not_doing_so_is_not():
    given = settings(on_bad_image="error")
    assert catalogue.shaping("pets", given) == catalogue.shaping("pets", settings())
    assert catalogue.shaping("pets", settings(on_bad_image="skip"))["on_bad_image"] == "skip"


def test_the_folders_of_the_splits_are_in_the_address_of_an_image_folder():
    given = {**settings(kind="image_folder"), "train": "a", "test": "b", "root": "c"}
    shaping = catalogue.shaping("pets", given)
    assert (shaping["train"], shaping["test"]) == ("a", "b")
    assert "root" not in shaping


def test_the_address_of_a_source_is_not_where_it_lies():
    given = settings(train=["a"], test=["b"], classes_per_block=3)
    shaping = catalogue.shaping("pets", given)
    assert {"train", "test", "classes_per_block"}.isdisjoint(shaping)
    assert shaping["name"] == "pets"
    assert shaping["classes"] == CLASSES
    assert {"revision", "holdout", "image_column", "label_column"} <= shaping.keys()
