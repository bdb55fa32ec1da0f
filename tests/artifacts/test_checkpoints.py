import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from stillhouse.artifacts import checkpoints
from stillhouse.artifacts.checkpoints import Checkpoint, TableCheckpoint, select_prefix
from stillhouse.artifacts.context import Context

SCHEMA = pa.schema([("number", pa.int64())])
TENSORS = {"a.x": torch.arange(3), "b": torch.zeros(2, 2)}


def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path, capsys):
    context = Context(work=tmp_path / "work")
    assert Checkpoint(context).resume("cat", "step") is None
    Checkpoint(context).save(TENSORS, {"done": 7, "losses": [0.5]})
    tensors, values = Checkpoint(context).resume("cat", "step")
    assert values == {"done": 7, "losses": [0.5]}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert capsys.readouterr().out == "cat: resumes after step 7\n"


def test_a_checkpoint_of_other_values_is_ignored(tmp_path, capsys):
    context = Context(work=tmp_path / "work")
    Checkpoint(context).save(TENSORS, {"done": 7, "batch_size": 64})
    assert Checkpoint(context).resume("cat", "step", batch_size=32) is None
    assert capsys.readouterr().out == ""
    assert Checkpoint(context).resume("cat", "step", batch_size=64) is not None


def flip_bit(place):
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place:][1:]


DAMAGES = {
    "header": flip_bit(10),
    "last tensor": flip_bit(-1),
    "values": lambda data: data.replace(b"done", b"dome", 1),
    "truncated": lambda data: data[:-5],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_ignored(tmp_path, capsys, damage):
    context = Context(work=tmp_path / "work")
    checkpoint = Checkpoint(context)
    checkpoint.save(TENSORS, {"done": 7})
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))
    assert Checkpoint(context).load() is None
    assert "damaged; starting over" in capsys.readouterr().out


def test_saves_are_due_after_checkpoint_seconds(tmp_path):
    assert Checkpoint(Context(work=tmp_path, checkpoint_seconds=0)).due()
    checkpoint = Checkpoint(Context(work=tmp_path, checkpoint_seconds=100))
    assert not checkpoint.due()
    assert not checkpoint.due(last=True)
    checkpoint.started -= 101
    assert checkpoint.due(last=True)
    assert not checkpoint.due()


def test_a_save_notes_the_seconds_of_all_jobs(tmp_path):
    checkpoint = Checkpoint(Context(work=tmp_path, earlier=40.0))
    checkpoint.started -= 2
    checkpoint.save(TENSORS, {"done": 7})
    assert 42 <= json.loads((tmp_path / "seconds.json").read_text()) < 43


def test_a_prefix_is_removed():
    assert select_prefix({"net.a": 1, "net.b.c": 2, "other": 3}, "net.") == {"a": 1, "b.c": 2}


def tables(*numbers):
    return [pa.table({"number": [number]}, schema=SCHEMA) for number in numbers]


def numbers(checkpoint):
    return [table["number"].to_pylist() for table in checkpoint.resume("labels", "epoch")]


def test_tables_are_resumed_in_order_up_to_a_damaged_file(tmp_path, capsys):
    context = Context(work=tmp_path, checkpoint_seconds=0)
    checkpoint = TableCheckpoint(context, SCHEMA)
    assert numbers(checkpoint) == []
    for table in tables(1, 2, 3):
        checkpoint.add(table)
    again = TableCheckpoint(context, SCHEMA)
    assert numbers(again) == [[1], [2], [3]]
    again.add(*tables(4))
    assert numbers(TableCheckpoint(context, SCHEMA)) == [[1], [2], [3], [4]]
    assert "labels: resumes after epoch 4\n" in capsys.readouterr().out
    second = sorted(tmp_path.glob("part-*.parquet"))[1]
    second.write_bytes(second.read_bytes()[:-1])
    assert numbers(TableCheckpoint(context, SCHEMA)) == [[1]]
    assert len(list(tmp_path.glob("part-*.parquet"))) == 1


def test_tables_are_saved_after_checkpoint_seconds_or_when_they_are_large(tmp_path, monkeypatch):
    checkpoint = TableCheckpoint(Context(work=tmp_path, checkpoint_seconds=100), SCHEMA)
    checkpoint.add(*tables(1))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(checkpoints, "CHUNK_BYTES", 8)
    checkpoint.add(*tables(2))
    (path,) = tmp_path.glob("part-*.parquet")
    assert pq.ParquetFile(path).num_row_groups == 2


def test_the_module_imports_artifacts_only():
    code = (
        "import sys, stillhouse.artifacts.checkpoints\n"
        "packages = {n.split('.')[1] for n in sys.modules if n.startswith('stillhouse.')}\n"
        "assert packages <= {'artifacts', 'errors', 'rng', 'checks'}, packages\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
