"""No artifact has a number that is not finite, when it is written and when it is read."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from stillhouse.artifacts import finite, formats, store
from stillhouse.errors import StillhouseError

BAD = st.sampled_from([math.nan, math.inf, -math.inf])
TYPES = {torch.float16: pa.float16(), torch.float32: pa.float32(), torch.float64: pa.float64()}
PLACES = st.tuples(st.integers(0, 11), BAD, st.sampled_from([*TYPES, torch.bfloat16]))


def numbers(place, bad, dtype):
    """Return twelve numbers with a bad one, as a tensor."""
    values = torch.arange(12, dtype=dtype) - 5
    values[place] = bad
    return values


@given(PLACES)
def test_a_tensor_that_is_not_finite_is_named(place):
    values = numbers(*place)
    finite.check_tensors({"labels": torch.arange(3), "none": torch.empty(0)})
    finite.check_tensors({"x": values.nan_to_num(0, 0, 0).view(3, 4)})
    with pytest.raises(finite.NotFinite, match="tensor 'x': 1 of 12 numbers are not finite"):
        finite.check_tensors({"a": torch.ones(2), "x": values.view(3, 4)})


def nested(array, shape):
    """Return an array of twelve numbers as a column, plain or in lists or structs."""
    if shape == "list":
        return pa.ListArray.from_arrays(pa.array([0, 5, 5, 12], pa.int32()), array)
    if shape == "fixed":
        return pa.FixedSizeListArray.from_arrays(array, 4)
    if shape == "struct":
        lists = nested(array, "list")
        return pa.StructArray.from_arrays([pa.array(["a", "b", "c"]), lists], ["op", "v"])
    return array


@given(
    PLACES.filter(lambda p: p[2] in TYPES), st.sampled_from(["plain", "list", "fixed", "struct"])
)
def test_a_column_that_is_not_finite_is_named_at_any_depth(place, shape):
    values, kind = numbers(*place).numpy(), TYPES[place[2]]
    good = pa.table({"x": nested(pa.array(np.nan_to_num(values, posinf=0, neginf=0), kind), shape)})
    finite.check_table(good)
    bad = pa.table({"id": ["a"] * len(good), "x": nested(pa.array(values, kind), shape)})
    name = "x.v" if shape == "struct" else "x"
    with pytest.raises(finite.NotFinite, match=f"column '{name}': 1 of 12 numbers"):
        finite.check_table(bad)


@pytest.mark.parametrize("kind", TYPES.values(), ids=str)
def test_missing_numbers_and_those_outside_a_slice_are_no_error(kind):
    values = pa.array([None, 1.0, None, 2.0], kind)
    lists = pa.array([[1.0], None, [], [2.0, None]], pa.list_(kind))
    finite.check_table(pa.table({"x": values, "y": lists}))
    table = pa.table({"x": pa.array(np.array([np.nan, 1, 2, np.inf]).astype(np.float16))})
    finite.check_table(table.slice(1, 2))
    with pytest.raises(finite.NotFinite):
        finite.check_table(table.slice(1, 3))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
)


@given(VALUES)
def test_json_is_written_strictly_or_not_at_all(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("json") / "x.json"
    try:
        json.dumps(values, allow_nan=False)
    except ValueError:
        with pytest.raises(StillhouseError, match="is not finite"):
            formats.save_json(path, values)
        assert list(path.parent.iterdir()) == []
        return
    formats.save_json(path, values)
    assert finite.read_json(path.read_bytes()) == values


SPEC = {"stage": "pets", "address": "results/pets/a"}
CONTENTS = {
    "cell.json": ({"curve": [{"loss": math.nan}]}, "curve.0.loss: is not finite"),
    "x.safetensors": ({"mean": torch.tensor([1.0, math.nan])}, "tensor 'mean': 1 of 2"),
    "x.parquet": (pa.table({"score": [1.0, math.inf]}), "column 'score': 1 of 2"),
    "groups.parquet": (
        formats.RowGroups(
            pa.schema([("score", pa.float64())]),
            [pa.table({"score": [1.0]}), pa.table({"score": [math.nan]})],
        ),
        "column 'score'",
    ),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_an_artifact_that_is_not_finite_is_not_stored_and_its_file_is_named(empty, name):
    content, problem = CONTENTS[name]
    with pytest.raises(StillhouseError, match=problem) as raised:
        store.write("results/pets/a", SPEC, {name: content})
    assert str(raised.value).startswith(f"results/pets/a/{name}: ")
    assert "learning_rate" in str(raised.value) and "bfloat16" in str(raised.value)
    assert list((empty / "results/pets/a").iterdir()) == []


def test_an_artifact_of_an_earlier_version_that_is_not_finite_is_damaged(empty, monkeypatch):
    files = {name: content for name, (content, _) in CONTENTS.items() if name[0] != "g"}
    with monkeypatch.context() as earlier:
        for name in ("check_values", "check_tensors", "check_table"):
            earlier.setattr(finite, name, lambda content: None)
        dumps = json.dumps
        earlier.setattr(json, "dumps", lambda v, **o: dumps(v, **{**o, "allow_nan": True}))
        store.write("results/pets/a", SPEC, files)
    readers = {".json": store.read_json, ".safetensors": store.read_tensors}
    for name in files:
        path = empty / "results/pets/a" / name
        with pytest.raises(store.Damaged, match=r"not finite; delete the folder .*/a and rerun"):
            readers.get(path.suffix, store.read_table)(path)


def test_foreign_files_may_have_any_numbers(empty):
    """Only artifacts are checked by their reader: weights are checked where they are loaded."""
    save_file({"x": torch.tensor([math.nan])}, empty / "x.safetensors")
    assert store.load_tensors(empty / "x.safetensors")["x"].isnan().all()
