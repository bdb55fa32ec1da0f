import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stillhouse
import torch
from stillhouse.artifacts import formats

TABLE = pa.table({"image_id": ["a", "b", "c"], "score": pa.array([0.5, 1.5, -2.0], pa.float32())})


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def test_row_groups_and_metadata_are_stored_unchanged(tmp_path):
    schema = TABLE.schema.with_metadata({"method": "rded"})
    groups = (TABLE.slice(start, count) for start, count in [(0, 1), (1, 2), (0, 3)])
    formats.save_table(tmp_path / "t.parquet", schema, groups)
    stored = pq.ParquetFile(tmp_path / "t.parquet")
    assert [stored.metadata.row_group(i).num_rows for i in range(3)] == [1, 2, 3]
    assert stored.read_row_group(1)["image_id"].to_pylist() == ["b", "c"]
    assert stored.schema_arrow.metadata[b"method"] == b"rded"


def test_a_large_table_is_one_row_group(tmp_path):
    table = pa.table({"n": np.zeros(2**20 + 2**17, "i1")})
    path = formats.write_temporary(tmp_path, "t.parquet", table)
    assert pq.ParquetFile(path).num_row_groups == 1


def test_a_finished_file_is_moved(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/x").write_text("{}")
    path = formats.write_temporary(tmp_path, "part/t.json", tmp_path / "work/x")
    assert path.read_text() == "{}" and not names(tmp_path / "work")


SAVED = {
    "bytes": (formats.save_bytes, b"text", {"no": "bytes"}),
    "json": (formats.save_json, {"b": 1, "a": "é"}, {"no plain value": object()}),
    "tensors": (formats.save_tensors, {"a": torch.ones(2)}, {"a": "no tensor"}),
}


@pytest.mark.parametrize(("save", "content", "wrong"), SAVED.values(), ids=SAVED)
def test_saved_files_are_complete_or_missing(tmp_path, save, content, wrong):
    path = tmp_path / "new" / "file.x"
    with pytest.raises((TypeError, AttributeError)):
        save(path, wrong)
    assert names(path.parent) == []
    save(path, content)
    saved = path.read_bytes()
    with pytest.raises((TypeError, AttributeError)):
        save(path, wrong)
    assert path.read_bytes() == saved
    assert names(path.parent) == ["file.x"]


def test_json_has_sorted_keys_and_plain_letters(tmp_path):
    formats.save_json(tmp_path / "x.json", {"b": 1, "a": "é"})
    assert (tmp_path / "x.json").read_text() == '{\n "a": "é",\n "b": 1\n}\n'
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"a": "é", "b": 1}


def test_a_checksum_is_the_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert formats.checksum(tmp_path / "abc") == hashlib.sha256(b"abc").hexdigest()


def test_no_module_reads_or_writes_pickles():
    modules = sorted(Path(stillhouse.__file__).parent.glob("**/*.py"))
    assert len(modules) > 100
    for module in modules:
        text = module.read_text()
        assert not re.search(r"\b(pickle|cPickle|dill|joblib|shelve|marshal)\b", text), module
        assert not re.search(r"allow_pickle\s*=\s*True|torch\.save\(|np\.save\(", text), module
        for call in re.findall(r"torch\.load\(.*?\)", text, re.DOTALL):
            assert "weights_only=True" in call, module
        assert not re.search(r"yaml\.(load|load_all)\((?!.*loader)", text), module
        assert not re.search(r"weights_only\s*=\s*False", text), module
