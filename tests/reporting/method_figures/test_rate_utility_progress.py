"""Pictures of a joint optimisation: a row per snapshot, a panel per curve."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from stillhouse.artifacts import store
from stillhouse.methods.common.snapshots import snapshot_table
from stillhouse.reporting import contact_sheets
from stillhouse.reporting.method_figures import rate_utility_progress

from tests.reporting.fakes import spec_of

CURVE = {
    "utility": [40.0, 20.0, 10.0, 9.0],
    "bits_per_pixel": [1.5, 1.6, 1.2, 1.0],
    "psnr": [60.0, 30.0, 25.0, 24.0],
}


def test_the_sheet_has_one_row_per_snapshot_and_the_chart_one_panel_per_curve(empty):
    spec = spec_of("rate_utility", "x/ipc1-seed0", {"joint": {"iterations": 8}})
    levels = torch.arange(0, 250, 50, dtype=torch.uint8)[:, None, None, None, None]
    snapshots = snapshot_table(levels.expand(5, 2, 3, 4, 4).contiguous(), 8)
    files = {"curve.json": {"curve": CURVE}, "snapshots.parquet": snapshots}
    store.write(spec["address"], spec, files)
    outputs = {"png": Path("x.png"), "svg": Path("x.svg")}
    path = f"{spec['address']}/state.safetensors"
    params = {"title": "title", "files": {"rate_utility": {"": path}}}
    rate_utility_progress.rate_utility_progress({}, params, outputs)
    sheet = np.asarray(Image.open(outputs["png"]).convert("L"))
    column = sheet[:, -contact_sheets.MARGIN - contact_sheets.CELL // 2].tolist()
    assert [value for value in dict.fromkeys(column) if value % 50 == 0] == [0, 50, 100, 150, 200]
    svg = outputs["svg"].read_text()
    assert all(label in svg for label in rate_utility_progress.CURVES.values())
    again = rate_utility_progress.curves(CURVE, 8, "title")
    assert again == outputs["svg"].read_bytes()
    changed = rate_utility_progress.curves({**CURVE, "psnr": [1.0] * 4}, 8, "title")
    assert changed != again
