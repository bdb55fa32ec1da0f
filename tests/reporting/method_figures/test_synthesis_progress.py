import io
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from stillhouse.artifacts import store
from stillhouse.reporting import contact_sheets
from stillhouse.reporting.method_figures import synthesis_progress

from tests.reporting.fakes import spec_of

CURVE = {
    "cross_entropy": [4.0, 2.0, 1.0, 0.5],
    # Of an observer that is not used in every stretch.
    "batchnorm": [None, 3.0, None, 0.25],
    "densification": [0.0, 0.0, 0.0, 0.0],
}


def snapshots():
    """Return two images at each of five iterations, of grey levels 0, 50, …, 200."""
    rows = []
    for time, index in itertools.product(range(5), range(2)):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (50 * time,) * 3).save(buffer, "PNG")
        image = {"bytes": buffer.getvalue(), "path": "x.png"}
        rows.append({"image": image, "iteration": 2 * time, "label": index, "index": 0})
    return pa.Table.from_pylist(rows)


def test_the_sheet_has_one_row_per_snapshot_and_the_chart_one_line_per_term(empty):
    spec = spec_of("synthesis", "x/batch0", {"iterations": 8}, batch=0)
    store.write(spec["address"], spec, {"curve.json": CURVE, "snapshots.parquet": snapshots()})
    outputs = {"png": Path("x.png"), "svg": Path("x.svg")}
    params = {"title": "title", "files": {"synthesis": {0: f"{spec['address']}/images.parquet"}}}
    synthesis_progress.synthesis_progress({}, params, outputs)
    sheet = np.asarray(Image.open(outputs["png"]).convert("L"))
    # The centre of the last image of each row: black at the start.
    column = sheet[:, -contact_sheets.MARGIN - contact_sheets.CELL // 2]
    levels = [int(value) for value, below in itertools.pairwise(column) if value == below]
    assert [value for value in dict.fromkeys(levels) if value != 255] == [0, 50, 100, 150, 200]
    svg = outputs["svg"].read_text()
    assert "title" in svg and "cross entropy" in svg and "batchnorm" in svg
    assert "densification" not in svg


def test_a_stretch_without_a_term_has_no_point_of_it():
    absent = {**CURVE, "batchnorm": [None] * 4}
    filled = {**CURVE, "batchnorm": [3.0, 3.0, 0.25, 0.25]}
    drawn = [synthesis_progress.loss_terms(curve, 8, "x") for curve in (CURVE, absent, filled)]
    assert len(set(drawn)) == 3
    assert b"batchnorm" in drawn[0] and b"batchnorm" not in drawn[1]
    assert synthesis_progress.loss_terms(CURVE, 8, "x") == drawn[0]
