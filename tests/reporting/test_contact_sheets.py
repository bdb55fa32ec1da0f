import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stillhouse.artifacts import store
from stillhouse.artifacts.formats import RowGroups
from stillhouse.reporting import contact_sheets

from tests.reporting.fakes import put_set, spec_of


def colour(label, index):
    return 10 + 9 * label, 20 + 15 * index, 77


@pytest.fixture
def sheet_of(empty):
    """Return a function that draws the sheet of a set of plain colours."""

    def draw(n_classes, n_images, side=8, title="t"):
        import pyarrow as pa

        spec = spec_of("distilled", "set", {"classes": n_classes}, ipc=n_images)
        groups = []
        for label in range(n_classes):
            rows = []
            for index in range(n_images):
                png = io.BytesIO()
                Image.new("RGB", (side, side), colour(label, index)).save(png, "PNG")
                rows.append(
                    {
                        "image": {"bytes": png.getvalue(), "path": "x.png"},
                        "label": label,
                        "class_id": f"class {label}",
                        "index": index,
                    }
                )
            groups.append(pa.Table.from_pylist(rows))
        files = {"images.parquet": RowGroups(groups[0].schema, groups)}
        store.write(spec["address"], spec, files)
        inputs = {"set": [Path(spec["address"]) / "images.parquet"]}
        contact_sheets.contact_sheet(inputs, {"title": title}, {"png": Path("out/sheet.png")})
        return np.asarray(Image.open("out/sheet.png"))

    return draw


def first_column(sheet):
    """Return the place of the first enlarged image: top and left of the first pixel of colour."""
    rows, columns = np.nonzero((sheet == colour(0, 0)).all(axis=2))
    return rows.min(), columns.min()


def test_images_are_in_rows_by_class(sheet_of):
    sheet = sheet_of(3, 4)
    top, left = first_column(sheet)
    for label in range(3):
        for index in range(4):
            y, x = top + label * (64 + 4), left + index * (64 + 4)
            assert (sheet[y : y + 64, x : x + 64] == colour(label, index)).all()
            # A margin of white around each.
            assert (sheet[y - 1, x : x + 64] == 255).all()
            assert (sheet[y : y + 64, x + 64] == 255).all()
    assert sheet.shape[:2] == (top + 3 * 68, left + 4 * 68)
    # Names of classes stand on the left, the title above.
    assert (sheet[top : top + 64, : left - 4] < 128).any()
    assert (sheet[: top - 4] < 128).any()


@pytest.mark.parametrize(
    ("n_classes", "n_images", "rows", "columns"), [(25, 3, 20, 3), (2, 14, 2, 10), (1, 1, 1, 1)]
)
def test_sheets_have_at_most_twenty_classes_and_ten_images_per_class(
    sheet_of, n_classes, n_images, rows, columns
):
    sheet = sheet_of(n_classes, n_images)
    top, left = first_column(sheet)
    assert sheet.shape[:2] == (top + rows * 68, left + columns * 68)


def test_a_long_title_is_not_cut(sheet_of):
    short, long = sheet_of(1, 1), sheet_of(1, 1, title="a title that is longer than an image")
    assert long.shape[1] > short.shape[1]
    assert (long[:, -4:] == 255).all()


def test_large_images_are_averaged(sheet_of):
    sheet = sheet_of(1, 2, side=200)
    top, left = first_column(sheet)
    assert (sheet[top : top + 64, left : left + 64] == colour(0, 0)).all()


def test_small_images_are_enlarged_by_whole_pixels(empty):
    path = Path(put_set("random", 2, {})["address"]) / "images.parquet"
    contact_sheets.contact_sheet({"set": [path]}, {"title": "three"}, {"png": Path("x.png")})
    sheet = Image.open("x.png")
    rows = store.read_table(path).to_pylist()
    last = Image.open(io.BytesIO(rows[-1]["image"]["bytes"])).convert("RGB")
    found = sheet.crop((sheet.width - 68, sheet.height - 68, sheet.width - 4, sheet.height - 4))
    enlarged = np.asarray(last).repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(np.asarray(found), enlarged)
