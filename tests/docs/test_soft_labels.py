"""The student of docs/soft-labels.md runs as it is printed."""

import re
import shutil
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs/soft-labels.md"


def snippet():
    (text,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return text


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
    losses, names = [], {}
    code = snippet().replace("loss.backward()", "loss.backward(), losses.append(loss.item())")
    exec(compile(code, str(PAGE), "exec"), {"losses": losses, **names})
    assert len(losses) == 100 * 2  # six images in steps of four
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])
