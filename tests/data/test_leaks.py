from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.artifacts import store
from stillhouse.data import leaks
from stillhouse.errors import StillhouseError

from tests.data.test_class_images import Pets

ROWS = st.lists(
    st.fixed_dictionaries(
        {"split": st.sampled_from(["train", "test", "unused"]), "sha256": st.sampled_from("abcd")}
    ),
    max_size=8,
)
SCHEMA = pa.schema([(name, pa.string()) for name in ("split", "sha256", "image_id")])


@given(ROWS)
def test_training_images_are_compared_with_test_images(rows):
    rows = [{**row, "image_id": str(i)} for i, row in enumerate(rows)]
    tested = {row["sha256"] for row in rows if row["split"] == "test"}
    wanted = [r for r in rows if r["split"] == "train" and r["sha256"] in tested]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    assert leaks.in_both_splits(table).to_pylist() == [
        {name: row[name] for name in SCHEMA.names} for row in wanted
    ]


@pytest.fixture
def leaking(empty):
    pets = Pets(empty)
    pets.write("test", [(7, 1), (101, 2), (102, 0), (7, 0)])
    return pets


def test_images_of_both_splits_are_counted_in_the_index(leaking, capsys):
    leaking.make_index()
    metadata = store.open_row_groups(leaking.index.file).schema_arrow.metadata
    assert metadata[b"in_both_splits"] == b"1"
    assert "1 training images equal test images" in capsys.readouterr().out


MESSAGE = (
    r"^sources\.pets: 1 training images equal test images, such as 'train-0000007'; remove them "
    r"from one split, or set sources\.pets\.on_leak: count$"
)


def test_images_of_both_splits_are_an_error_on_request(leaking):
    with pytest.raises(StillhouseError, match=MESSAGE):
        leaking.make_index(on_leak="error")
    assert not Path(leaking.index.file).exists()
    leaking.make_index(on_leak="count")
    with pytest.raises(StillhouseError, match=MESSAGE):
        leaks.check_existing("pets", leaking.index.file)
    leaks.check_existing("pets", Path("gone/index.parquet"))


def test_a_holdout_counts_images_that_are_twice_among_those_for_training(empty):
    pets = Pets(empty, holdout=0.5)
    pets.write("train", [(i % 3, i % 3) for i in range(30)])
    pets.make_index()
    metadata = store.open_row_groups(pets.index.file).schema_arrow.metadata
    assert metadata[b"in_both_splits"] == b"15"


def test_splits_without_equal_images_are_accepted(empty):
    pets = Pets(empty)
    pets.make_index(on_leak="error")
    leaks.check_existing("pets", pets.index.file)
