import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from stillhouse.artifacts import formats
from stillhouse.data.sources import parquet_files
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
        (lambda w: wrong_label(w, [0.0, 1.5]), "row 1: unknown label 1.5"),
        (lambda w: wrong_label(w, ["cat", "cow"]), "unknown label 'cow'"),
        (lambda w: wrong_label(w, [0, None]), "unknown label None"),
        (lambda w: wrong_label(w, ["cat", None]), "unknown label 'cat'|unknown label None"),
        (
            lambda w: wrong_label(w, [0], image_column="img"),
            r"missing column 'img'; set sources\.pets\.image_column to one of image$",
        ),
        (lambda w: wrong_label(w, [0], label_column="y"), r"'y'.*sources\.pets\.label_column"),
        (lambda w: no_bytes(w, None), "row 1: no bytes in column 'image'"),
        (lambda w: no_bytes(w, {"path": "x.png"}), "row 1: no bytes in column 'image'"),
        (lambda w: no_bytes(w, {"bytes": b""}), "row 1: no bytes"),
        (of_numbers, r"column 'image': list<element: int64> has no bytes of images"),
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
    with pytest.raises(StillhouseError, match="has no bytes of images; must be struct"):
        images(train, test, on_bad_image="skip")


PATHS = pa.array([{"path": "1.png"}], pa.struct([("path", pa.string())]))
CLASSES_OF = ["hen", "cat", "dog"]
LABEL_CASES = {
    "whole floats": ([2.0, 0.0, 1.0], CLASSES_OF),
    "lists of one number": ([[2], [0], [1]], CLASSES_OF),
    "lists of one text": ([["hen"], ["cat"], ["dog"]], CLASSES_OF),
    "dictionary": (pa.array(CLASSES_OF).dictionary_encode(), CLASSES_OF),
    "booleans": ([True, False, True], ["dog", "cat", "dog"]),
    "fixed lists": (pa.array([[2], [0], [1]], pa.list_(pa.int64(), 1)), CLASSES_OF),
    "small integers": (pa.array([2, 0, 1], pa.uint8()), CLASSES_OF),
    "large text": (pa.array(CLASSES_OF, pa.large_string()), CLASSES_OF),
}


@pytest.mark.parametrize("name", LABEL_CASES)
def test_labels_of_other_types_are_read(write, name):
    labels, wanted = LABEL_CASES[name]
    path = write("a.parquet", structs([1, 2, 3]), labels)
    assert [image.class_id for image in images([path], [path])][:3] == wanted


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary_view(), pa.binary(len(png(1)))])
def test_bytes_of_other_types_are_read(write, kind):
    path = write("a.parquet", pa.array([png(1), png(1)], kind), [0, 1])
    assert [image.data for image in images([path], [path])] == [png(1)] * 4


def test_bytes_in_a_dictionary_are_read(write):
    column = pa.array([png(1), png(2), png(1)]).dictionary_encode()
    path = write("a.parquet", column, [0, 1, 2])
    assert [image.data for image in images([path], [path])][:3] == [png(1), png(2), png(1)]


@pytest.mark.parametrize(
    ("column", "labels", "message"),
    [
        (structs([1]), [[0, 1]], r"row 0: unknown label \[0, 1\]; must be one label per image"),
        (structs([1]), pa.array([[]], pa.list_(pa.int64())), r"unknown label \[\]; must be one"),
        (structs([1]), [{"id": 3}], r"column 'label': struct<id: int64> is no label"),
        (structs([1]), [b"cat"], r"column 'label': binary is no label"),
        (structs([1]), [float("nan")], "row 0: unknown label nan"),
        (structs([1, 2]), [0, -1], "row 1: unknown label -1; the row has no label"),
        (structs([1]), ["cow"], "unknown label 'cow'; list all classes"),
        (
            structs([1]),
            ["2"],
            "unknown label '2'; the text is no class id: list it in sources.pets",
        ),
        (PATHS, [0], r"column 'image': struct<path: string> has no bytes of images"),
        (pa.array(["1.png"]), [0], "column 'image': string has no bytes of images"),
    ],
)
def test_columns_of_unsupported_types_are_named(write, column, labels, message):
    path = write("a.parquet", column, labels)
    with pytest.raises(StillhouseError, match=message) as caught:
        images([path], [path])
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_label_in_another_unicode_form_is_explained(write):
    path = write("a.parquet", structs([1]), ["e\u0301lan"])
    with pytest.raises(StillhouseError, match=r"classes has it in another Unicode form"):
        images([path], [path], classes=["\u00e9lan", "cat"])


@pytest.mark.parametrize("n_rows", [0, 2])
def test_files_without_rows_are_named_unless_others_have_rows(write, n_rows):
    empty = write("a.parquet", pa.array([], pa.null()), pa.array([], pa.null()))
    full = write("b.parquet", structs([1, 2]), [0, 1])
    if n_rows:
        assert len(images([empty, full], [full])) == 4
        return
    with pytest.raises(StillhouseError, match=r"sources\.pets\.train: no rows in .*a\.parquet"):
        images([empty], [full])
    with pytest.raises(StillhouseError, match=r"sources\.pets\.test: no rows in .*a\.parquet"):
        images([full], [empty])
    assert len(images([full], [empty], holdout=0.5)) == 2


def with_metadata(write, content):
    path = write("a.parquet", structs([1]), [0])
    table = pq.read_table(path).replace_schema_metadata({"huggingface": content})
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        *("null", "not JSON", "[]", "3", '{"info": null}', '{"info": {"features": [1]}}', b"\xff"),
        '{"info": {"features": {"label": "ClassLabel"}}}',
        '{"info": {"features": {"label": {"names": null}}}}',
        '{"info": {"features": {"label": {"names": [1, 2, 3]}}}}',
    ],
)
def test_metadata_without_class_names_have_no_effect(write, content):
    path = with_metadata(write, content)
    assert images([path], [path])[0].class_id == "cat"


@pytest.mark.parametrize(
    "label",
    [
        {"names": ["dog", "cat", "hen"]},
        {"names": {"0": "dog", "1": "cat", "2": "hen"}},
        {"_type": "List", "feature": {"names": ["dog", "cat", "hen"], "_type": "ClassLabel"}},
        [{"names": ["dog", "cat", "hen"], "_type": "ClassLabel"}],
    ],
)
def test_class_names_are_compared_in_every_form_of_metadata(write, label):
    path = with_metadata(write, json.dumps({"info": {"features": {"label": label}}}))
    with pytest.raises(StillhouseError, match="class order dog, cat, hen of its metadata"):
        images([path], [path])


def test_numbered_class_names_are_sorted_as_numbers(write):
    classes = [f"c{i}" for i in range(12)]
    names = dict(sorted((str(i), name) for i, name in enumerate(classes)))
    path = with_metadata(write, json.dumps({"info": {"features": {"label": {"names": names}}}}))
    assert images([path], [path], classes, classes=classes)[0].class_id == "c0"


def test_descriptions_of_wordnet_ids_are_class_names(write):
    from timm.data import ImageNetInfo

    ids = ["n01440764", "n01443537", "n01484850"]
    described = ImageNetInfo("imagenet-1k").label_descriptions(as_dict=True)
    for names in ([described[one] for one in ids], [described[one] for one in reversed(ids)]):
        features = {"label": {"_type": "ClassLabel", "names": names}}
        path = with_metadata(write, json.dumps({"info": {"features": features}}))
        if names[0].startswith("tench"):
            assert images([path], [path], ids, classes=ids)[0].class_id == "n01440764"
        else:
            with pytest.raises(StillhouseError, match="class order great white shark"):
                images([path], [path], ids, classes=ids)


def test_a_data_set_saved_by_hugging_face_is_read(tmp_path):
    import datasets

    features = datasets.Features(
        {"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=CLASSES)}
    )
    pictures = [Pillow.new("RGB", (2, 2), (value, 0, 0)) for value in range(4)]
    rows = {"img": pictures, "fine_label": [2, 0, 1, 2]}
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    with pytest.raises(StillhouseError, match=r"label_column to one of fine_label$"):
        images([path], [path], image_column="img")
    actual = images([path], [path], image_column="img", label_column="fine_label")
    assert [image.class_id for image in actual[:4]] == ["hen", "cat", "dog", "hen"]
    with pytest.raises(StillhouseError, match="class order cat, dog, hen of its metadata"):
        images([path], [path], image_column="img", label_column="fine_label", classes=CLASSES[::-1])


def test_names_of_columns_may_have_dots(tmp_path, monkeypatch, pool):
    path = tmp_path / "a.parquet"
    large_row_group(path, 64, 2**20, columns=("seg.input.png", "json.cls"))
    monkeypatch.setattr(formats, "BATCH_BYTES", 2**22)
    before = pool.bytes_allocated()
    changes = {"image_column": "seg.input.png", "label_column": "json.cls"}
    assert read_all(path, **changes) == 2 * 64 * 2**20
    assert pool.max_memory() - before < 2**25


def test_without_a_fitting_column_the_others_are_named(write):
    path = write("a.parquet", structs([1]), [{"fine": 2}], ("image", "labels"))
    with pytest.raises(StillhouseError, match=r"missing column 'label', and none of image, labels"):
        images([path], [path])


def test_two_columns_of_one_name_are_an_error(tmp_path):
    table = pa.Table.from_arrays(
        [structs([1]), structs([1]), pa.array([0])], ["image"] * 2 + ["label"]
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    with pytest.raises(StillhouseError, match=r"column 'image' exists 2 times; rename the others"):
        images([path], [path])


def test_what_is_no_regular_file_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nothing")
    for name, message in [
        ("pipe", "is a named pipe, not a file"),
        ("folder", "is a folder, not a file"),
        ("loop", "Too many levels of symbolic links"),
        ("gone", "a link to a missing file"),
    ]:
        path = tmp_path / name
        with pytest.raises(StillhouseError, match=rf"^sources\.pets: {path}: .*{message}"):
            images([path], [path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "an HTML page; download the file itself"),
        (b"", "download it again"),
        (b"ARROW1\0\0", r"an Arrow file \(Feather\); convert it to Parquet"),
        (b"PARE" + bytes(20) + b"PARE", "an encrypted Parquet file; decrypt it"),
        (b"\x1f\x8b\x08\0", "a gzip archive; unpack it"),
        (b"PAR1" + bytes(range(256)), "download it again"),
    ],
)
def test_what_lies_in_place_of_a_parquet_file_is_named(tmp_path, content, message):
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(StillhouseError, match=rf"not a Parquet file: {path} .*{message}") as caught:
        images([path], [path])
    assert "\n" not in str(caught.value)


@pytest.fixture
def pool():
    """Count the memory of Arrow, which is that of decoded columns."""
    before = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(before)
    pa.set_memory_pool(counting)
    yield counting
    pa.set_memory_pool(before)


def large_row_group(path, n, size, columns=("image", "label")):
    """Write n images of `size` bytes each, of few bytes on the disk, in one row group."""
    content = pa.array([bytes(size)], pa.binary())
    image = pa.StructArray.from_arrays([content, pa.array(["x.png"])], ["bytes", "path"])
    labels = [i % 3 for i in range(n)]
    table = pa.table([pa.chunked_array([image] * n), pa.array(labels)], names=columns)
    pq.write_table(
        table,
        path,
        row_group_size=n,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    assert pq.ParquetFile(path).num_row_groups == 1


def read_all(path, **changes):
    source = open_source(settings(**changes), {"train": [path], "test": [path]})
    return sum(len(image.data) for image in source.images(set(CLASSES)))


def test_the_memory_of_reading_does_not_grow_with_row_groups(tmp_path, monkeypatch, pool):
    path = tmp_path / "a.parquet"
    large_row_group(path, 64, 2**20)
    monkeypatch.setattr(formats, "BATCH_BYTES", 2**22)
    before = pool.bytes_allocated()
    assert read_all(path) == 2 * 64 * 2**20
    assert pool.max_memory() - before < 2**25


@pytest.mark.slow
def test_a_row_group_of_more_than_two_gigabytes_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    large_row_group(path, 66, 2**25)
    assert read_all(path) == 2 * 66 * 2**25


LABELS = st.one_of(
    st.lists(st.integers(-2, 4), min_size=1, max_size=6),
    st.lists(st.floats(-1, 4) | st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=6),
    st.lists(st.sampled_from([*CLASSES, "cow", ""]) | st.none(), min_size=1, max_size=6),
    st.lists(st.lists(st.integers(0, 3), max_size=2), min_size=1, max_size=6),
    st.lists(st.fixed_dictionaries({"id": st.integers(0, 2)}), min_size=1, max_size=3),
    st.lists(st.booleans() | st.none(), min_size=1, max_size=3),
    st.lists(st.dates() | st.none(), min_size=1, max_size=3),
    st.lists(st.binary(max_size=3), min_size=1, max_size=3),
)


def label_of(value):
    """Return the class id of a label, None if it has none."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, str):
        return value if value in CLASSES else None
    whole = isinstance(value, int | float) and value in (0, 1, 2)
    return CLASSES[int(value)] if whole else None


@given(LABELS)
def test_labels_are_classes_or_an_error_of_one_line(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("labels") / "a.parquet"
    pq.write_table(pa.table({"image": structs(range(len(labels))), "label": labels}), path)
    wanted = [label_of(value) for value in labels]
    try:
        actual = images([path], [path])
    except StillhouseError as error:
        assert None in wanted and "\n" not in str(error) and str(path) in str(error)
    else:
        assert [image.class_id for image in actual] == wanted * 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["info", "features", "label", "names", "feature", "0"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON | JSON.map(lambda value: {"info": {"features": {"label": value}}}), st.booleans())
def test_class_names_of_any_metadata_are_texts(value, cut):
    content = json.dumps(value).encode()
    names = parquet_files.class_names({b"huggingface": content[:-1] if cut else content}, "label")
    assert isinstance(names, list) and all(isinstance(name, str) for name in names)


@given(st.data())
def test_a_damaged_file_is_read_or_an_error_of_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.parquet"
    pq.write_table(pa.table({"image": structs([1, 2]), "label": [0, 1]}), path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        images([path], [path])
    except StillhouseError as error:
        assert "\n" not in str(error) and str(path) in str(error)
