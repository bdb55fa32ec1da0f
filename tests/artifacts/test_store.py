import json
import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stillhouse.artifacts import formats, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.store import Damaged, Misplaced, Missing, RowGroups, WrongType
from stillhouse.errors import StillhouseError

TABLE = pa.table({"image_id": ["a", "b", "c"], "score": pa.array([0.5, 1.5, -2.0], pa.float32())})
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3).T, "steps": torch.tensor(3)}
VALUES = {"accuracy": 91.25, "name": "Müller", "curve": [{"epoch": 1}], "none": None}
FILES = {"table.parquet": TABLE, "model.safetensors": TENSORS, "cell.json": VALUES}


def artifact(**settings):
    index = Artifact("index", "digits", {"kind": "digits", "name": "digits"})
    upstream = {"images": Artifact("images", "digits", {}, {"index": index})}
    return Artifact("teacher", "digits-8px", {"epochs": 3, **settings}, upstream, {"seed": 5})


@pytest.fixture
def written(empty):
    """Write an artifact with a file of each kind; return its folder."""
    one = artifact()
    store.write(one.directory, one.spec(), FILES)
    return one.directory


def read(path):
    """Read a file of an artifact with the reader for its kind."""
    readers = {
        ".parquet": store.read_table,
        ".safetensors": store.read_tensors,
        ".json": store.read_json,
    }
    return readers[Path(path).suffix](path)


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_what_is_written_is_read(written):
    assert read(written / "table.parquet").equals(TABLE)
    tensors = read(written / "model.safetensors")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
    assert read(written / "cell.json") == VALUES
    spec = store.read_spec(written)
    assert {k: spec[k] for k in artifact().spec()} == artifact().spec()
    assert names(written) == ["cell.json", "model.safetensors", "spec.json", "table.parquet"]


FOLDER = {
    "vae/config.json": {"a": 1},
    "vae/model.safetensors": TENSORS,
    "net/config.json": {"b": 2},
    "about.json": VALUES,
}


@pytest.fixture
def nested(empty):
    """Write an artifact with files in subfolders; return its folder."""
    one = artifact()
    store.write(one.directory, one.spec(), FOLDER, timing=lambda: {"seconds": 1.0})
    return one.directory


def test_files_may_lie_in_subfolders(nested):
    assert read(nested / "vae/config.json") == {"a": 1}
    assert read(nested / "net/config.json") == {"b": 2}
    assert torch.equal(read(nested / "vae/model.safetensors")["weight"], TENSORS["weight"])
    found = {path.relative_to(nested).as_posix() for path in nested.rglob("*") if path.is_file()}
    assert found == {*FOLDER, "spec.json", "timing.json"}
    assert store.read_spec(nested)["files"].keys() == FOLDER.keys()
    assert store.is_whole(nested, artifact().spec(), FOLDER)
    specs = store.check([nested / name for name in FOLDER])
    assert [spec["digest"] for spec in specs] == [artifact().digest] * 4


@pytest.mark.parametrize("name", ["vae/config.json", "vae/model.safetensors"])
def test_an_altered_file_of_a_subfolder_is_noticed(nested, aged, name):
    read(nested / name)
    alter(nested / name, 0.9, 1)
    aged(nested / name)
    with pytest.raises(Damaged, match=re.escape(f"{nested / name}: ")) as caught:
        read(nested / name)
    # The whole artifact: a subfolder alone would not be made again.
    assert str(caught.value).endswith(f"delete the folder {nested} and run again")
    assert not store.is_whole(nested, artifact().spec(), FOLDER)
    assert store.is_whole(nested, artifact().spec(), ["about.json"])


def test_files_of_two_subfolders_are_told_apart(nested, aged):
    shutil.copy(nested / "net/config.json", nested / "vae/config.json")
    aged(nested / "vae/config.json")
    with pytest.raises(Damaged, match=r"vae/config\.json"):
        read(nested / "vae/config.json")
    shutil.copy(nested / "vae/config.json", nested / "vae/more.json")
    with pytest.raises(Damaged, match=r"more\.json: is not among the files"):
        read(nested / "vae/more.json")
    (nested / "net/config.json").unlink()
    with pytest.raises(Missing, match=r"net/config\.json"):
        read(nested / "net/config.json")


def test_a_writer_that_fails_leaves_no_subfolder(empty):
    one = artifact()
    with pytest.raises(TypeError):
        store.write(one.directory, one.spec(), {**FOLDER, "about.json": {"not": object()}})
    assert names(one.directory) == []


def test_the_file_named_last_is_renamed_after_those_of_subfolders(empty, monkeypatch):
    replace = store.os.replace

    def until(old, new):
        if new.name == "about.json":
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(store.os, "replace", until)
    one = artifact()
    with pytest.raises(KeyboardInterrupt):
        store.write(one.directory, one.spec(), FOLDER)
    assert names(one.directory) == ["net", "spec.json", "vae"]
    assert not store.is_whole(one.directory, one.spec(), ["about.json"])
    monkeypatch.undo()
    store.write(one.directory, one.spec(), FOLDER)
    assert store.is_whole(one.directory, one.spec(), FOLDER)


def test_a_member_of_a_family_is_no_subfolder_of_another_artifact(written):
    inner = artifact(epochs=4).at(class_id="cat")
    store.write(inner.directory, inner.spec(), {"cell.json": VALUES})
    (inner.directory / "spec.json").unlink()
    with pytest.raises(Missing, match=r"cat/spec\.json"):
        read(inner.directory / "cell.json")


@pytest.mark.parametrize(("name", "shape"), [("weight", (3, 2)), ("steps", ())])
def test_the_shape_of_a_tensor_is_told_without_reading_it(written, name, shape, monkeypatch):
    monkeypatch.setattr(store, "load_tensors", None)
    assert store.tensor_shape(written / "model.safetensors", name) == shape


def test_the_shape_of_an_altered_file_is_not_told(written, aged):
    path = written / "model.safetensors"
    alter(path, 0.9, 1)
    aged(path)
    with pytest.raises(Damaged, match=r"model\.safetensors"):
        store.tensor_shape(path, "weight")


def test_only_wanted_columns_are_read(written):
    assert store.read_table(written / "table.parquet", ["score"]).column_names == ["score"]


def test_folders_become_no_columns(written):
    folder = Path("score=7").absolute()
    shutil.copytree("results", folder / "results")
    table = read(folder / written / "table.parquet")
    assert table.column_names == ["image_id", "score"]
    assert table.equals(TABLE)


def test_the_same_content_gives_the_same_bytes(written):
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    shutil.rmtree(written)
    store.write(written, artifact().spec(), FILES)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before


def test_row_groups_are_kept_as_given(empty):
    one = artifact()
    schema = TABLE.schema.with_metadata({"method": "rded"})
    groups = (TABLE.slice(start, count) for start, count in [(0, 1), (1, 2), (0, 3)])
    store.write(one.directory, one.spec(), {"t.parquet": RowGroups(schema, groups)})
    kept = store.open_row_groups(one.directory / "t.parquet", TABLE.schema)
    assert [kept.metadata.row_group(i).num_rows for i in range(3)] == [1, 2, 3]
    assert kept.read_row_group(1)["image_id"].to_pylist() == ["b", "c"]
    assert kept.schema_arrow.metadata[b"method"] == b"rded"


def test_a_large_table_is_one_row_group(empty):
    one, rows = artifact(), 2**20 + 2**17
    store.write(one.directory, one.spec(), {"t.parquet": pa.table({"n": np.zeros(rows, "i1")})})
    assert pq.ParquetFile(one.directory / "t.parquet").num_row_groups == 1


def alter(path, place, change):
    """Cut a file at a place, or change the byte there by a mask; return what it was."""
    whole = path.read_bytes()
    at = int(place * len(whole))
    if change == 0:
        path.write_bytes(whole[:at])
    else:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
    return whole


SHARES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize("name", ["table.parquet", "model.safetensors", "cell.json"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=SHARES, change=st.integers(0, 255))
def test_any_altered_byte_of_a_file_is_noticed(written, aged, name, place, change):
    path = written / name
    read(path)
    whole = alter(path, place, change)
    aged(path)
    try:
        with pytest.raises(Damaged, match=re.escape(str(path))) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert f"delete the folder {written}" in str(caught.value)
        assert not store.is_whole(written, artifact().spec(), [name])
    finally:
        path.write_bytes(whole)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=SHARES, change=st.integers(0, 255))
def test_any_altered_byte_of_the_spec_is_noticed(written, place, change):
    path = written / "spec.json"
    before = _values(path)
    whole = alter(path, place, change)
    try:
        # White space for white space is the same spec.
        same = _values(path) == before
        if not same:
            with pytest.raises(StillhouseError, match=re.escape(str(written))) as caught:
                read(written / "cell.json")
            assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(whole)


def _values(path):
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_missing_files_are_named(written):
    path = written / "table.parquet"
    path.unlink()
    with pytest.raises(Missing, match=re.escape(str(path))):
        read(path)
    (written / "spec.json").unlink()
    with pytest.raises(Missing, match=r"spec\.json"):
        read(written / "cell.json")


def test_a_file_that_does_not_belong_is_named(written):
    shutil.copy(written / "table.parquet", written / "other.parquet")
    with pytest.raises(Damaged, match=r"other\.parquet: is not among the files"):
        read(written / "other.parquet")


def test_artifacts_at_each_others_address_are_noticed(written):
    other = artifact(epochs=4)
    store.write(other.directory, other.spec(), FILES)
    aside = written.with_name("aside")
    written.rename(aside)
    other.directory.rename(written)
    aside.rename(other.directory)
    for folder in (written, other.directory):
        with pytest.raises(Misplaced, match=re.escape(str(folder))):
            read(folder / "table.parquet")
    assert not store.is_whole(written, artifact().spec(), FILES)


def test_a_file_of_another_address_is_noticed(written, aged):
    other = artifact(epochs=4)
    store.write(other.directory, other.spec(), {"cell.json": {**VALUES, "accuracy": 11.25}})
    shutil.copy(other.directory / "cell.json", written / "cell.json")
    aged(written / "cell.json")
    with pytest.raises(Damaged, match=r"cell\.json"):
        read(written / "cell.json")


def test_the_folder_may_be_moved_as_a_whole(written, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("results", elsewhere / "results")
    assert read(elsewhere / written / "cell.json") == VALUES


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema([("score", pa.float64())]), "column 'score' should be double, is float"),
        (pa.schema([("label", pa.int64())]), "column 'label' should be int64, is no such column"),
    ],
)
def test_wrong_columns_are_named(written, schema, message):
    for reader in (store.read_table, store.open_row_groups):
        with pytest.raises(WrongType, match=message):
            reader(written / "table.parquet", schema=schema)


@pytest.mark.parametrize(
    ("reader", "name", "message"),
    [
        (store.read_table, "cell.json", "is not a Parquet file"),
        (store.open_row_groups, "model.safetensors", "is not a Parquet file"),
        (store.read_tensors, "table.parquet", "is not a readable safetensors file"),
        (store.read_json, "table.parquet", "is not JSON"),
    ],
)
def test_wrong_kinds_of_file_are_named(written, reader, name, message):
    with pytest.raises(WrongType, match=f"{name}: {message}") as caught:
        reader(written / name)
    assert "\n" not in str(caught.value)


def test_is_whole_wants_all_files_and_the_same_spec(written):
    spec = artifact().spec()
    assert store.is_whole(written, spec, FILES)
    assert store.is_whole(str(written), json.loads(json.dumps(spec)), ["cell.json"])
    assert not store.is_whole(written, spec, [*FILES, "more.json"])
    assert not store.is_whole(written, {**spec, "keys": {"seed": 6}}, FILES)
    assert not store.is_whole(written.with_name("nowhere"), spec, FILES)


def failing(rows):
    yield from rows
    raise RuntimeError("killed")


@pytest.mark.parametrize(
    "files",
    [
        {"cell.json": VALUES, "t.parquet": RowGroups(TABLE.schema, failing([TABLE]))},
        {"table.parquet": TABLE, "cell.json": {"not plain": object()}},
        {"table.parquet": TABLE, "model.safetensors": {"no tensor": None}},
    ],
    ids=["row groups", "json", "tensors"],
)
def test_a_writer_that_fails_leaves_nothing(empty, files):
    one = artifact()
    with pytest.raises((RuntimeError, TypeError, AttributeError)):
        store.write(one.directory, one.spec(), files)
    assert names(one.directory) == []


def test_a_writer_that_fails_leaves_the_old_artifact_alone(written):
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    files = {"cell.json": {}, "table.parquet": RowGroups(TABLE.schema, failing([TABLE]))}
    with pytest.raises(RuntimeError, match="killed"):
        store.write(written, artifact().spec(), files)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before
    assert read(written / "table.parquet").equals(TABLE)


def test_the_last_file_named_is_renamed_last(empty, monkeypatch):
    renamed, replace = [], store.os.replace
    monkeypatch.setattr(
        store.os, "replace", lambda old, new: (renamed.append(new.name), replace(old, new))
    )
    one = artifact()
    store.write(one.directory, one.spec(), FILES, timing=lambda: {"seconds": 1.0})
    assert renamed == ["spec.json", "timing.json", *FILES]


def test_a_kill_between_renames_is_noticed(empty, monkeypatch):
    replace = store.os.replace

    def until(old, new):
        if new.name == "cell.json":
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(store.os, "replace", until)
    one = artifact()
    with pytest.raises(KeyboardInterrupt):
        store.write(one.directory, one.spec(), FILES)
    assert not store.is_whole(one.directory, one.spec(), FILES)
    assert not [name for name in names(one.directory) if name.endswith(".draft")]


def test_what_a_killed_process_left_goes_with_the_next_writing(written):
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = platform.node()
    drafts = [written / f".{who}.table.parquet.draft" for who in (f"{here}.{dead.pid}",)]
    alive = [written / f".{who}.cell.json.draft" for who in (f"{here}.1", "elsewhere.99999")]
    for draft in drafts + alive:
        draft.write_bytes(b"half a table")
    assert store.is_whole(written, artifact().spec(), FILES)
    store.write(written, artifact().spec(), FILES)
    kept = ["cell.json", "model.safetensors", "spec.json", "table.parquet"]
    assert names(written) == sorted([*(path.name for path in alive), *kept])


def test_timing_is_no_part_of_the_artifact(written):
    assert store.read_timing(written) is None
    (written / "timing.json").write_text('{"seconds": 2.5}')
    assert store.read_timing(written) == {"seconds": 2.5}
    assert store.is_whole(written, artifact().spec(), FILES)


@pytest.mark.parametrize("save", [formats.save_bytes, formats.save_tensors])
def test_other_files_are_whole_or_absent_too(tmp_path, save):
    path = tmp_path / "new" / "file.x"
    with pytest.raises((TypeError, AttributeError)):
        save(path, {"a": "no tensor, no bytes"})
    assert names(path.parent) == []
    save(path, {"a": torch.ones(2)} if save is formats.save_tensors else b"text")
    assert names(path.parent) == ["file.x"]


def test_a_checksum_is_the_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert formats.checksum(tmp_path / "abc") == known


def test_nothing_opens_pickles():
    package = Path(store.__file__).parent
    modules = sorted(package.glob("**/*.py"))
    assert len(modules) > 20
    for module in modules:
        text = module.read_text()
        assert not re.search(r"\b(pickle|cPickle|dill|joblib|shelve|marshal)\b", text), module
        assert not re.search(r"allow_pickle\s*=\s*True|torch\.save\(|np\.save\(", text), module
        for call in re.findall(r"torch\.load\(.*?\)", text, re.DOTALL):
            assert "weights_only=True" in call, module
        assert not re.search(r"yaml\.(load|load_all)\((?!.*loader)", text), module
        assert not re.search(r"weights_only\s*=\s*False", text), module
