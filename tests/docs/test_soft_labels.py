"""docs/soft-labels.md names every column and key, and its student runs as it is printed."""

import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import torch

PAGE = Path(__file__).parents[2] / "docs/soft-labels.md"


def snippet():
    (text,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return text


def test_every_column_and_every_key_is_documented(in_tiny_results):
    rows = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    for artifact in in_tiny_results.artifacts["labels"].values():
        schema = pq.read_schema(artifact.file)
        assert {*schema.names, *(key.decode() for key in schema.metadata)} <= named
    assert named >= {"views", "seed", "view_generator", "views_sha256"}


def test_the_plain_student_has_few_lines():
    assert len(snippet().splitlines()) <= 25


def test_the_plain_student_learns_the_labels(in_tiny_results, tmp_path, monkeypatch):
    (table,) = (
        artifact
        for artifact in in_tiny_results.artifacts["labels"].values()
        if artifact.upstream["distilled"].settings["kind"] == "random"
        and artifact.upstream["distilled"].keys["ipc"] == 2
    )
    for path in (table.file, table.upstream["distilled"].file):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    losses = []
    code = snippet().replace("loss.backward()", "loss.backward(), losses.append(loss.item())")
    exec(compile(code, str(PAGE), "exec"), {"losses": losses})
    assert len(losses) == 100 * 2  # six images in steps of four
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
