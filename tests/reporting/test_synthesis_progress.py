import io
import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from stillhouse.artifacts import store
from stillhouse.methods.statistical_matching import synthesis
from stillhouse.reporting import contact_sheets, synthesis_progress

SPEC = {"stage": "synthesis", "settings": {"iterations": 8}, "address": "results/synthesis/x"}
CURVE = {
    "cross_entropy": [4.0, 2.0, 1.0, 0.5],
    # Of an observer whose turn does not come in every stretch.
    "batchnorm": [None, 3.0, None, 0.25],
    "densification": [0.0, 0.0, 0.0, 0.0],
}


def test_a_sheet_has_a_row_a_time_and_the_chart_its_terms(empty):
    pictures = torch.zeros((5, 2, 3, 4, 4), dtype=torch.uint8)
    for time in range(5):
        pictures[time] = 50 * time
    files = {"curve.json": CURVE, "snapshots.parquet": synthesis.snapshot_table(pictures, 8)}
    store.write(SPEC["address"], SPEC, files)
    folder = Path(SPEC["address"])
    inputs = {"pictures": [folder / "snapshots.parquet"], "curve": [folder / "curve.json"]}
    outputs = {"png": Path("x.png"), "svg": Path("x.svg")}
    synthesis_progress.descents(inputs, {"title": "how"}, outputs)
    sheet = np.asarray(Image.open(io.BytesIO(outputs["png"].read_bytes())).convert("L"))
    # The last picture of a row, in the middle: darkest at the start.
    right = sheet[:, -contact_sheets.MARGIN - contact_sheets.CELL // 2]
    seen = [int(value) for value, below in itertools.pairwise(right) if value == below]
    assert [value for value in dict.fromkeys(seen) if value != 255] == [0, 50, 100, 150, 200]
    svg = outputs["svg"].read_text()
    assert "how" in svg and "cross entropy" in svg and "batchnorm" in svg
    assert "densification" not in svg


def test_a_stretch_without_a_term_has_no_point_of_it():
    gone = {**CURVE, "batchnorm": [None] * 4}
    filled = {**CURVE, "batchnorm": [3.0, 3.0, 0.25, 0.25]}
    drawn = [synthesis_progress.terms(curve, 8, "x") for curve in (CURVE, gone, filled)]
    assert len(set(drawn)) == 3
    assert b"batchnorm" in drawn[0] and b"batchnorm" not in drawn[1]
    assert synthesis_progress.terms(CURVE, 8, "x") == drawn[0]
