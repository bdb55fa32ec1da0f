import json
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stillhouse.artifacts import formats, store
from stillhouse.artifacts.addresses import Artifact
from stillhouse.artifacts.formats import RowGroups
from stillhouse.artifacts.stages import IMAGES, INDEX, TEACHER, Stage
from stillhouse.artifacts.store import Damaged, Misplaced, Missing, WrongType
from stillhouse.errors import StillhouseError

TABLE = pa.table({"image_id": ["a", "b", "c"], "score": pa.array([0.5, 1.5, -2.0], pa.float32())})
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3).T, "steps": torch.tensor(3)}
VALUES = {"accuracy": 91.25, "name": "Müller", "curve": [{"epoch": 1}], "none": None}
FILES = {"table.parquet": TABLE, "model.safetensors": TENSORS, "cell.json": VALUES}
# Positions in a file.
SHARES = st.floats(0, 1, exclude_max=True)


def artifact(**settings):
    index = Artifact(INDEX, "digits", {"kind": "digits", "name": "digits"})
    upstream = {"images": Artifact(IMAGES, "digits", {}, {"index": index})}
    return Artifact(TEACHER, "digits-8px", {"epochs": 3, **settings}, upstream, {"seed": 5})


@pytest.fixture
def written(empty):
    """Write an artifact with a file of each kind; return its folder."""
    stored = artifact()
    store.write(stored.directory, stored.spec(), FILES)
    return stored.directory


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


def test_values_read_are_those_written(written):
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
    stored = artifact()
    store.write(stored.directory, stored.spec(), FOLDER, timing=lambda: {"seconds": 1.0})
    return stored.directory


def test_files_may_lie_in_subfolders(nested):
    assert read(nested / "vae/config.json") == {"a": 1}
    assert read(nested / "net/config.json") == {"b": 2}
    assert torch.equal(read(nested / "vae/model.safetensors")["weight"], TENSORS["weight"])
    actual = {path.relative_to(nested).as_posix() for path in nested.rglob("*") if path.is_file()}
    assert actual == {*FOLDER, "spec.json", "timing.json"}
    assert store.read_spec(nested)["files"].keys() == FOLDER.keys()
    assert store.is_complete(nested, artifact().spec(), FOLDER)
    specs = store.check([nested / name for name in FOLDER])
    assert [spec["digest"] for spec in specs] == [artifact().digest] * 4


@pytest.mark.parametrize("name", ["vae/config.json", "vae/model.safetensors"])
def test_an_altered_file_of_a_subfolder_is_detected(nested, aged, name):
    read(nested / name)
    alter(nested / name, 0.9, 1)
    aged(nested / name)
    with pytest.raises(Damaged, match=re.escape(f"{nested / name}: ")) as caught:
        read(nested / name)
    # A subfolder alone would not be recomputed.
    assert str(caught.value).endswith(f"delete the folder {nested} and rerun")
    assert not store.is_complete(nested, artifact().spec(), FOLDER)
    assert store.is_complete(nested, artifact().spec(), ["about.json"])


def test_files_of_two_subfolders_are_distinguished(nested, aged):
    shutil.copy(nested / "net/config.json", nested / "vae/config.json")
    aged(nested / "vae/config.json")
    with pytest.raises(Damaged, match=r"vae/config\.json"):
        read(nested / "vae/config.json")
    shutil.copy(nested / "vae/config.json", nested / "vae/more.json")
    with pytest.raises(Damaged, match=r"more\.json: not listed in"):
        read(nested / "vae/more.json")
    (nested / "net/config.json").unlink()
    with pytest.raises(Missing, match=r"net/config\.json"):
        read(nested / "net/config.json")


def test_a_failed_writer_leaves_no_subfolder(empty):
    stored = artifact()
    with pytest.raises(TypeError):
        store.write(stored.directory, stored.spec(), {**FOLDER, "about.json": {"not": object()}})
    assert names(stored.directory) == []


def test_the_file_named_last_is_renamed_after_those_of_subfolders(empty, monkeypatch):
    replace = formats.os.replace

    def until(old, new):
        if new.name == "about.json":
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(formats.os, "replace", until)
    stored = artifact()
    with pytest.raises(KeyboardInterrupt):
        store.write(stored.directory, stored.spec(), FOLDER)
    assert names(stored.directory) == ["net", "spec.json", "vae"]
    assert not store.is_complete(stored.directory, stored.spec(), ["about.json"])
    monkeypatch.undo()
    store.write(stored.directory, stored.spec(), FOLDER)
    assert store.is_complete(stored.directory, stored.spec(), FOLDER)


def test_members_are_artifacts_of_their_own(empty):
    features = Stage("features", 1, ("cell.json",), "module:function", "features", "class_id")
    artifact = Artifact(features, "x", {})
    for class_id in ("cat", "a/b"):
        spec = artifact.member_spec(class_id)
        files = {"cell.json": {"class": class_id}}
        store.write(spec["address"], spec, files, artifact=artifact.spec())
        assert store.is_complete(spec["address"], spec, ["cell.json"])
        assert not store.is_complete(spec["address"], artifact.spec(), ["cell.json"])
    assert read(artifact.member_file("a/b")) == {"class": "a/b"}
    Path(artifact.member_file("cat")).with_name("spec.json").unlink()
    with pytest.raises(Missing, match=r"cat/spec\.json"):
        read(artifact.member_file("cat"))


@pytest.fixture
def members(empty):
    """Write two members of an artifact whose settings list 100 classes; return the artifact."""
    return write_members("cat", "dog")


def write_members(*class_ids, n_classes=100):
    features = Stage("features", 1, ("cell.json",), "module:function", "features", "class_id")
    upstream = {"images": Artifact(IMAGES, "digits", {}, {"index": Artifact(INDEX, "d", {})})}
    listed = [f"n{number:08d}" for number in range(n_classes)]
    stored = Artifact(features, "x", {"classes": listed}, upstream, {"seed": 5}, n_members=7)
    for class_id in class_ids or listed:
        spec = stored.member_spec(class_id)
        files = {"cell.json": {"class": class_id}}
        store.write(spec["address"], spec, files, artifact=stored.spec())
    return stored


def test_members_share_one_lineage(members):
    lineage = members.directory / "lineage.json"
    assert names(members.directory) == ["cat", "dog", "lineage.json"]
    shared = {name: value for name, value in members.spec().items() if name != "members"}
    assert store.read_lineage(members.directory) == shared
    own = json.loads(Path(members.member_file("cat")).with_name("spec.json").read_text())
    assert own.keys() == {"address", "digest", "keys", "files", "lineage", "seal"}
    assert (members.directory / "cat" / own["lineage"]).samefile(lineage)
    spec = store.read_spec(members.directory / "cat")
    assert {name: spec[name] for name in spec if name != "files"} == members.member_spec("cat")
    state = lineage.stat()
    write_members("hen")
    assert (lineage.stat().st_ino, lineage.stat().st_mtime_ns) == (state.st_ino, state.st_mtime_ns)


def test_the_bytes_of_specs_grow_with_the_number_of_classes_not_with_its_square(empty):
    sizes = []
    for n_classes in (50, 200):
        stored = write_members(n_classes=n_classes)
        paths = [*stored.directory.glob("*/spec.json"), stored.directory / "lineage.json"]
        assert len(paths) == n_classes + 1
        sizes.append(sum(path.stat().st_size for path in paths))
    assert sizes[1] < 4.1 * sizes[0]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=SHARES, change=st.integers(0, 255))
def test_any_altered_byte_of_a_lineage_is_detected(members, aged, place, change):
    path, member = members.directory / "lineage.json", members.member_file("cat")
    before, content = _values(path), path.read_bytes()
    alter(path, place, change)
    aged(path)
    try:
        if _values(path) != before:
            with pytest.raises(StillhouseError, match=re.escape(str(members.directory))) as caught:
                read(member)
            assert "\n" not in str(caught.value)
            assert not store.is_complete(
                members.directory / "cat", members.member_spec("cat"), ["cell.json"]
            )
    finally:
        path.write_bytes(content)


def test_a_missing_or_foreign_lineage_is_detected_and_written_again(members):
    path, member = members.directory / "lineage.json", members.member_file("cat")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(Missing, match=r"lineage\.json: missing; run make verify, which") as caught:
        read(member)
    assert caught.value.path == path
    # Of a process that was killed while it wrote the lineage.
    temporary = path.with_name(f".{platform.node()}.{2**23}.lineage.json.tmp")
    temporary.touch()
    write_members("hen")
    assert not temporary.exists()
    assert path.read_bytes() == content and read(member) == {"class": "cat"}
    other = Artifact(members.stage, "x", {"classes": []})
    store.write_lineage(other.spec())
    shutil.copy(other.directory / "lineage.json", path)
    with pytest.raises(Misplaced, match=re.escape(str(other.directory))):
        read(member)


@pytest.mark.parametrize(("name", "shape"), [("weight", (3, 2)), ("steps", ())])
def test_the_shape_of_a_tensor_is_known_without_reading_it(written, name, shape, monkeypatch):
    monkeypatch.setattr(store, "load_tensors", None)
    assert store.tensor_shape(written / "model.safetensors", name) == shape


def test_the_shape_of_an_altered_file_is_an_error(written, aged):
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


def alter(path, place, change):
    """Cut a file at a position, or change its byte by a mask; return the original content."""
    content = path.read_bytes()
    at = int(place * len(content))
    if change == 0:
        path.write_bytes(content[:at])
    else:
        path.write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
    return content


@pytest.mark.parametrize("name", ["table.parquet", "model.safetensors", "cell.json"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=SHARES, change=st.integers(0, 255))
def test_any_altered_byte_of_a_file_is_detected(written, aged, name, place, change):
    path = written / name
    read(path)
    content = alter(path, place, change)
    aged(path)
    try:
        with pytest.raises(Damaged, match=re.escape(str(path))) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert f"delete the folder {written}" in str(caught.value)
        assert not store.is_complete(written, artifact().spec(), [name])
    finally:
        path.write_bytes(content)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=SHARES, change=st.integers(0, 255))
def test_any_altered_byte_of_the_spec_is_detected(written, place, change):
    path = written / "spec.json"
    before = _values(path)
    content = alter(path, place, change)
    try:
        # White space for white space is the same spec.
        same = _values(path) == before
        if not same:
            with pytest.raises(StillhouseError, match=re.escape(str(written))) as caught:
                read(written / "cell.json")
            assert "\n" not in str(caught.value)
    finally:
        path.write_bytes(content)


def _values(path):
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_a_missing_file_is_an_error_with_its_path(written):
    path = written / "table.parquet"
    path.unlink()
    with pytest.raises(Missing) as caught:
        read(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: missing; delete the folder {written} and rerun"
    (written / "spec.json").unlink()
    with pytest.raises(Missing, match=r"spec\.json: missing; delete the folder"):
        read(written / "cell.json")
    with pytest.raises(Missing, match="missing; rerun the workflow to create it"):
        read(path)


def test_an_unlisted_file_is_an_error_with_its_path(written):
    shutil.copy(written / "table.parquet", written / "other.parquet")
    with pytest.raises(Damaged, match=r"other\.parquet: not listed in"):
        read(written / "other.parquet")


def test_artifacts_at_each_others_address_are_detected(written):
    other = artifact(epochs=4)
    store.write(other.directory, other.spec(), FILES)
    aside = written.with_name("aside")
    written.rename(aside)
    other.directory.rename(written)
    aside.rename(other.directory)
    for folder in (written, other.directory):
        with pytest.raises(Misplaced, match=re.escape(str(folder))):
            read(folder / "table.parquet")
    assert not store.is_complete(written, artifact().spec(), FILES)


def test_a_file_of_another_address_is_detected(written, aged):
    other = artifact(epochs=4)
    store.write(other.directory, other.spec(), {"cell.json": {**VALUES, "accuracy": 11.25}})
    shutil.copy(other.directory / "cell.json", written / "cell.json")
    aged(written / "cell.json")
    with pytest.raises(Damaged, match=r"cell\.json"):
        read(written / "cell.json")


def test_results_may_be_moved_to_another_folder(written, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move("results", elsewhere / "results")
    assert read(elsewhere / written / "cell.json") == VALUES


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema([("score", pa.float64())]), "column 'score': is float; must be double"),
        (pa.schema([("label", pa.int64())]), "column 'label': is missing; must be int64"),
    ],
)
def test_wrong_columns_are_an_error_with_their_name(written, schema, message):
    for reader in (store.read_table, store.open_row_groups):
        with pytest.raises(WrongType, match=message):
            reader(written / "table.parquet", schema=schema)


@pytest.mark.parametrize(
    ("reader", "name", "message"),
    [
        (store.read_table, "cell.json", "not a Parquet file"),
        (store.open_row_groups, "model.safetensors", "not a Parquet file"),
        (store.read_tensors, "table.parquet", "not a readable safetensors file"),
        (store.read_json, "table.parquet", "not JSON"),
    ],
)
def test_a_file_of_another_format_is_an_error_with_its_path(written, reader, name, message):
    with pytest.raises(WrongType, match=f"{name}: {message}") as caught:
        reader(written / name)
    assert "\n" not in str(caught.value)


def test_a_complete_artifact_has_all_files_and_the_same_spec(written):
    spec = artifact().spec()
    assert store.is_complete(written, spec, FILES)
    assert store.is_complete(str(written), json.loads(json.dumps(spec)), ["cell.json"])
    assert not store.is_complete(written, spec, [*FILES, "more.json"])
    assert not store.is_complete(written, {**spec, "keys": {"seed": 6}}, FILES)
    assert not store.is_complete(written.with_name("nowhere"), spec, FILES)


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
def test_a_failed_writer_leaves_no_file(empty, files):
    stored = artifact()
    with pytest.raises((RuntimeError, TypeError, AttributeError)):
        store.write(stored.directory, stored.spec(), files)
    assert names(stored.directory) == []


def test_a_failed_writer_does_not_change_the_artifact(written):
    before = {path.name: path.read_bytes() for path in written.iterdir()}
    files = {"cell.json": {}, "table.parquet": RowGroups(TABLE.schema, failing([TABLE]))}
    with pytest.raises(RuntimeError, match="killed"):
        store.write(written, artifact().spec(), files)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before
    assert read(written / "table.parquet").equals(TABLE)


def test_files_are_renamed_in_order_after_the_spec(empty, monkeypatch):
    renamed, replace = [], formats.os.replace
    monkeypatch.setattr(
        formats.os, "replace", lambda old, new: (renamed.append(new.name), replace(old, new))
    )
    stored = artifact()
    store.write(stored.directory, stored.spec(), FILES, timing=lambda: {"seconds": 1.0})
    assert renamed == ["spec.json", "timing.json", *FILES]


def test_a_kill_between_renames_is_detected(empty, monkeypatch):
    replace = formats.os.replace

    def until(old, new):
        if new.name == "cell.json":
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(formats.os, "replace", until)
    stored = artifact()
    with pytest.raises(KeyboardInterrupt):
        store.write(stored.directory, stored.spec(), FILES)
    assert not store.is_complete(stored.directory, stored.spec(), FILES)
    assert not [name for name in names(stored.directory) if name.endswith(".tmp")]


def test_temporary_files_of_killed_processes_are_removed_by_the_next_writer(written):
    dead = subprocess.Popen(["true"])
    dead.wait()
    here = platform.node()
    stale = written / f".{here}.{dead.pid}.table.parquet.tmp"
    alive = [written / f".{who}.cell.json.tmp" for who in (f"{here}.1", "elsewhere.99999")]
    for temporary in (stale, *alive):
        temporary.write_bytes(b"half a table")
    assert store.is_complete(written, artifact().spec(), FILES)
    store.write(written, artifact().spec(), FILES)
    files = ["cell.json", "model.safetensors", "spec.json", "table.parquet"]
    assert names(written) == sorted([*(path.name for path in alive), *files])


def test_timing_is_no_part_of_the_artifact(written):
    assert store.read_timing(written) is None
    (written / "timing.json").write_text('{"seconds": 2.5}')
    assert store.read_timing(written) == {"seconds": 2.5}
    assert store.is_complete(written, artifact().spec(), FILES)


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", '{"seconds": "3"}', '{"seconds": NaN}', '{"device": 3}', "[" * 9999]
)
def test_a_timing_of_another_type_is_none(written, text):
    (written / "timing.json").write_text(text)
    assert store.read_timing(written) is None


def test_a_folder_in_the_place_of_a_file_is_missing(written):
    for name in ("timing.json", "spec.json"):
        (written / name).unlink(missing_ok=True)
        (written / name).mkdir()
    assert store.read_timing(written) is None
    with pytest.raises(store.Missing, match=r"spec\.json: missing; delete the folder"):
        store.read_spec(written)
    with pytest.raises(store.FileError):
        store.check([next(p for p in written.iterdir() if p.is_file())])
