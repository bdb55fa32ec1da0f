import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from stillhouse.data.sources.registry import open_source
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
        "on_bad_image": "error",
        **changes,
    }


def images(train, test, wanted=CLASSES, **changes):
    source = open_source(settings(**changes), {"train": train, "test": test})
    return list(source.images(set(wanted)))


def brief(actual):
    return [(image.class_id, image.split, image.image_id, image.data) for image in actual]


def test_structs_of_bytes_with_numbered_labels(write):
    train = [write("a.parquet", structs([1, 2, 3]), [2, 0, 2])]
    test = [write("b.parquet", structs([4]), [1])]
    actual = images(train, test)
    assert brief(actual) == [
        ("hen", "train", "train-0000000", png(1)),
        ("cat", "train", "train-0000001", png(2)),
        ("hen", "train", "train-0000002", png(3)),
        ("dog", "test", "test-0000000", png(4)),
    ]
    assert actual[0].path == "1.png"


def test_plain_bytes_with_labels_as_text(write):
    path = write("a.parquet", pa.array([png(1), png(2)], pa.binary()), ["hen", "cat"])
    actual = images([path], [path])
    assert [image.class_id for image in actual] == ["hen", "cat"] * 2
    assert actual[0].data == png(1)
    assert actual[0].path == "train-0000000"


def test_image_ids_count_over_row_groups_and_files(write):
    labels = [0, 1, 0, 1, 0]
    first = write("a.parquet", structs(range(5)), labels, rows=2)
    second = write("b.parquet", structs(range(5, 10)), labels, rows=3)
    actual = images([first, second], [first])
    ids = [image.image_id for image in actual if image.split == "train"]
    assert ids == [f"train-{i:07d}" for i in range(10)]
    assert [image.data for image in actual[:10]] == [png(i) for i in range(10)]


def test_ids_do_not_depend_on_the_classes_wanted(write):
    path = write("a.parquet", structs(range(6)), [0, 1, 2, 0, 1, 2], rows=2)
    complete = {image.image_id: image for image in images([path], [path])}
    selected = images([path], [path], ["dog"])
    assert [image.image_id for image in selected if image.split == "train"] == [
        "train-0000001",
        "train-0000004",
    ]
    assert all(complete[image.image_id] == image for image in selected)


def test_other_column_names(write):
    path = write("a.parquet", structs([1]), [0], ("img", "fine_label"))
    actual = images([path], [path], image_column="img", label_column="fine_label")
    assert actual[0].class_id == "cat"


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
        (lambda w: wrong_label(w, [0, 3]), r"unknown label 3; .*sources\.pets\.classes \(now 3\)"),
        (lambda w: wrong_label(w, [0, -1]), "unknown label -1"),
        (lambda w: wrong_label(w, [0.0, 1.5]), "unknown label 0.0"),
        (lambda w: wrong_label(w, ["cat", "cow"]), "unknown label 'cow'"),
        (lambda w: wrong_label(w, [0, None]), "unknown label None"),
        (lambda w: wrong_label(w, ["cat", None]), "unknown label 'cat'|unknown label None"),
        (
            lambda w: wrong_label(w, [0], image_column="img"),
            r"missing column 'img'; set sources\.pets\.image_column to one of image, label",
        ),
        (lambda w: wrong_label(w, [0], label_column="y"), r"'y'.*sources\.pets\.label_column"),
        (lambda w: no_bytes(w, None), "row 1: no bytes in column 'image'"),
        (lambda w: no_bytes(w, {"path": "x.png"}), "row 1: no bytes in column 'image'"),
        (lambda w: no_bytes(w, {"bytes": b""}), "row 1: no bytes"),
        (of_numbers, "row 0: no bytes"),
        (
            other_order,
            "class order dog, cat, hen of its metadata conflicts with sources.pets.classes",
        ),
        (gone, r"sources\.pets: file not found: .*b\.parquet"),
        (not_parquet, r"sources\.pets: not a Parquet file: .*a\.parquet"),
        (cut_short, r"not a Parquet file: .*a\.parquet"),
    ],
)
def test_an_unreadable_file_is_an_error_of_one_line(write, tmp_path, case, message):
    train, test, changes = case(write)
    with pytest.raises(StillhouseError, match=message) as caught:
        images(train, test, **changes)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("image", [None, {"path": "x.png"}, {"bytes": b"", "path": "x.png"}])
def test_a_row_without_bytes_is_an_unreadable_image(write, image):
    train, test, _ = no_bytes(write, image)
    actual = images(train, test, on_bad_image="skip")
    assert [image.data for image in actual] == [png(1), b""] * 2
    assert actual[1].image_id == "train-0000001"


def test_a_column_of_another_type_is_an_error(write):
    train, test, _ = of_numbers(write)
    with pytest.raises(StillhouseError, match="row 0: no bytes in column 'image'"):
        images(train, test, on_bad_image="skip")
