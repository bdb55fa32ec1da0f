import hashlib
import io
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFont
from stillhouse.artifacts import store
from stillhouse.data.class_images import IMAGES_SCHEMA, REFERENCES_SCHEMA
from stillhouse.data.codecs import encode
from stillhouse.reporting import contact_sheets
from stillhouse.reporting.method_figures import score_maps

from tests.reporting.fakes import spec_of

CELL, STEP = 96, 100  # px: of a heat map; from one to the next
INDEX = spec_of("index", "s", {"name": "s"})


def put(stage, class_id, name, rows, schema=None, upstream=None):
    spec = spec_of(stage, f"s/{class_id}", {}, upstream, class_id=class_id)
    table = pa.Table.from_pylist(rows, schema=schema)
    store.write(spec["address"], spec, {name: table})
    return f"{spec['address']}/{name}"


def put_images(class_id, pictures):
    """Store (3, h, w) pictures as the images a, b, … of a class; one more is of the test split."""
    rows = [
        {
            "image": {"bytes": encode(picture, "png"), "path": "x.png"},
            "class_id": class_id,
            "image_id": "abcdefghijklmnop"[i],
            "split": "train",
        }
        for i, picture in enumerate(pictures)
    ]
    rows.append({**rows[0], "image_id": "z", "split": "test"})
    return put("images", class_id, "images.parquet", rows, IMAGES_SCHEMA, {"index": INDEX})


def plain(level, height=8, width=8):
    return np.full((3, height, width), level, np.uint8)


def score_row(image_id, score, scores=None, box=(0, 0, 8, 8)):
    names = ("top", "left", "height", "width")
    grid = None if scores is None else np.asarray(scores, np.float16)
    return {
        "image_id": image_id,
        "score": score,
        **dict(zip(names, box, strict=True)),
        "map_height": None if grid is None else len(grid),
        "map": None if grid is None else list(grid.ravel()),
    }


SCORES_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("score", pa.float32()),
        *((name, pa.int32()) for name in ("top", "left", "height", "width", "map_height")),
        ("map", pa.list_(pa.float16())),
    ]
)


@pytest.fixture
def drawn(empty):
    """Return a function that draws the heat maps of classes: {class: (pictures, score rows)}."""

    def draw(classes, shape="square"):
        upstream = {"latents": spec_of("latents", "s", {"shape": shape})}
        files = {"scores": {}, "images": {}}
        for class_id, (pictures, rows) in classes.items():
            files["images"][class_id] = put_images(class_id, pictures)
            files["scores"][class_id] = put(
                "class_scores", class_id, "scores.parquet", rows, SCORES_SCHEMA, upstream
            )
        params = {"title": "t", "files": files, "source_roots": {}}
        score_maps.heat_maps({}, params, {"png": Path("x.png")})
        return np.asarray(Image.open("x.png")).astype(int)

    return draw


def cells(sheet, n_columns, *class_ids):
    """Return the cells of a sheet, from below the legend and right of the names."""
    font = ImageFont.load_default(14)
    left = int(max(map(font.getlength, class_ids))) + 12
    top = sheet.shape[0] - STEP * len(class_ids)
    return [
        [
            sheet[top + STEP * y : top + STEP * y + CELL, left + STEP * x : left + STEP * x + CELL]
            for x in range(n_columns)
        ]
        for y in range(len(class_ids))
    ]


def blend(level, score, limit):
    """Return the colour of a place, by hand."""
    grey = 96 + (255 - 96) * level / 255
    end = np.array([213, 94, 0] if score > 0 else [0, 114, 178])
    alpha = 0.85 * min(abs(score) / limit, 1)
    return np.rint((1 - alpha) * grey + alpha * end)


def test_a_map_is_laid_over_its_image(drawn):
    scores = [[[0.5, 0.5], [0.5, 0.5]], [[-1.0, -1.0], [-1.0, -1.0]], [[0, 0], [0, 0]]]
    rows = [
        score_row(name, score, scores[i])
        for i, (name, score) in enumerate(zip("abc", (2, 3, 1), strict=True))
    ]
    sheet = drawn({"one": ([plain(0), plain(100), plain(200)], rows)})
    # By score: b, a, c; the limit is that of all maps.
    (found,) = cells(sheet, 3, "one")
    for cell, (level, score) in zip(found, [(100, -1.0), (0, 0.5), (200, 0.0)], strict=True):
        np.testing.assert_allclose(cell, np.broadcast_to(blend(level, score, 1.0), cell.shape))


def test_classes_share_one_scale(drawn):
    classes = {
        name: ([plain(0)], [score_row("a", 1.0, np.full((4, 4), value))])
        for name, value in (("weak", 0.25), ("strong", 1.0))
    }
    (weak,), (strong,) = cells(drawn(classes), 1, "weak", "strong")
    np.testing.assert_allclose(weak[50, 50], blend(0, 0.25, 1.0))
    np.testing.assert_allclose(strong[50, 50], blend(0, 1.0, 1.0))


def test_maps_and_images_have_the_same_orientation(drawn):
    grid = np.zeros((4, 4))
    grid[0, 3] = grid[3, :] = 1.0
    ((cell,),) = cells(drawn({"c": ([plain(255)], [score_row("a", 1.0, grid)])}), 1, "c")
    assert (cell[4, 90] == blend(255, 1, 1)).all()
    assert (cell[4, 4] == 255).all()
    assert (cell[90, 4] == blend(255, 1, 1)).all()


def test_at_most_ten_images_with_a_map_are_drawn(drawn):
    grid = np.ones((2, 2))
    rows = [score_row(name, i, grid) for i, name in enumerate("abcdefghijkl")]
    rows += [score_row("m", 99.0)]
    sheet = drawn({"c": ([plain(20 * i) for i in range(13)], rows), "d": ([plain(0)], rows[:1])})
    found = cells(sheet, 10, "c", "d")
    levels = [cell[50, 50].tolist() for cell in found[0]]
    assert levels == [blend(20 * i, 1, 1).tolist() for i in range(11, 1, -1)]
    assert (found[1][1] == 255).all()


def test_maps_of_zeros_leave_grey_images(drawn):
    ((cell,),) = cells(drawn({"c": ([plain(51)], [score_row("a", 0.0, np.zeros((2, 2)))])}), 1, "c")
    assert (cell == round(96 + 159 / 5)).all()


def gradient(height, width):
    """Return a picture whose rows and columns all differ."""
    picture = np.zeros((3, height, width), np.uint8)
    picture[:] = np.linspace(0, 255, width).astype(np.uint8)
    return picture


def test_square_latents_show_the_square_of_the_image(drawn):
    # The largest centred square of 100 x 192 px begins at column 46.
    picture = gradient(100, 192)
    row = score_row("a", 1.0, np.zeros((4, 4)), box=(0, 46, 100, 100))
    ((cell,),) = cells(drawn({"c": ([picture], [row])}), 1, "c")
    wanted = Image.fromarray(picture[0, :, 46:146]).resize((CELL, CELL), Image.Resampling.BOX)
    wanted = np.rint(96 + 159 * (np.asarray(wanted) / 255))
    assert np.abs(cell - wanted[:, :, None]).max() <= 1


def test_the_selected_patch_is_outlined_unless_it_is_everything_scored(drawn):
    # 96 x 192 px, halved: 48 x 96 in the middle of its cell.
    picture, box = plain(128, 96, 192), (20, 60, 40, 80)
    row = score_row("a", 1.0, np.zeros((4, 8)), box=box)
    ((cell,),) = cells(drawn({"c": ([picture], [row])}, "aspect"), 1, "c")
    assert (cell[:24] == 255).all() and (cell[72:] == 255).all()
    inside = cell[24:72, :, 0]
    black, white = (np.argwhere(inside == value) for value in (0, 255))
    assert white.min(0).tolist() == [10, 30] and white.max(0).tolist() == [29, 69]
    assert black.min(0).tolist() == [11, 31] and black.max(0).tolist() == [28, 68]
    row = score_row("a", 1.0, np.zeros((4, 8)), box=(0, 0, 96, 192))
    ((cell,),) = cells(drawn({"c": ([picture], [row])}, "aspect"), 1, "c")
    assert len(np.unique(cell[24:72])) == 1


def test_the_legend_runs_from_one_colour_to_the_other(drawn):
    sheet = drawn({"c": ([plain(0)], [score_row("a", 1.0, np.ones((2, 2)))])})
    bar = sheet[14 + 3 * 4 + 9]
    ends = [np.argwhere((bar == blend(255, sign, 1)).all(1)).ravel() for sign in (-1, 1)]
    assert ends[1].max() - ends[0].min() == 159


def cluster_row(image_id, cluster_rank, rank, score, box=(0, 0, 8, 8)):
    names = ("top", "left", "height", "width")
    places = dict(zip(names, box, strict=True))
    found = {"cluster": 7 - cluster_rank, "cluster_rank": cluster_rank, "rank": rank}
    return {"image_id": image_id, "score": score, "distance": 1.0 + rank, **places, **found}


def draw_clusters(classes):
    files = {"clusters": {}, "images": {}}
    for class_id, (pictures, rows) in classes.items():
        files["images"][class_id] = put_images(class_id, pictures)
        files["clusters"][class_id] = put("clusters", class_id, "clusters.parquet", rows)
    params = {"title": "t", "files": files, "source_roots": {}}
    score_maps.clusters_figure({}, params, {"png": Path("x.png")})
    return np.asarray(Image.open("x.png")).astype(int)


def rows_of(sheet):
    """Return the rows of a sheet of plain grey pictures: the levels of each, from the left."""
    rows = []
    for line in sheet[:, :, 0].tolist():
        runs = [(level, len(list(run))) for level, run in itertools.groupby(line)]
        levels = [level for level, length in runs if length == 64 and level < 255]
        if levels and rows[-1:] != [levels]:
            rows.append(levels)
    return rows


def test_clusters_are_rows_best_first_and_nearest_first(empty):
    rows = [
        cluster_row("a", 1, 1, 0.1),
        cluster_row("b", 0, 0, 0.9),
        cluster_row("c", 1, 0, 0.2),
        cluster_row("d", 0, 1, 0.5),
    ]
    sheet = draw_clusters({"c": ([plain(level) for level in (50, 100, 150, 200)], rows)})
    assert rows_of(sheet) == [[100, 200], [150, 50]]


def test_clusters_are_named_by_median_score_and_size(empty, monkeypatch):
    names, sheet = [], contact_sheets.sheet

    def keep(title, rows):
        names.extend(row.name for row in rows)
        return sheet(title, rows)

    monkeypatch.setattr(contact_sheets, "sheet", keep)
    rows = [
        cluster_row(name, 0, i, score)
        for i, (name, score) in enumerate(zip("abc", (0.1, 0.5, 0.2), strict=True))
    ]
    rows.append(cluster_row("d", 1, 0, -0.25))
    draw_clusters({"c": ([plain(50)] * 4, rows)})
    assert names == ["class c: 2 of 2 clusters of 4 images", "+0.2\n3 images", "-0.25\n1 image"]


def test_at_most_ten_clusters_per_class_and_ten_images_per_cluster_are_drawn(empty):
    pictures = [plain(10 + 15 * i) for i in range(16)]
    many = [cluster_row(name, 0, i, 1.0) for i, name in enumerate("abcdefghijkl")]
    other = [cluster_row(name, i, 0, 1.0 - i) for i, name in enumerate("abcdefghijkl")]
    shown = rows_of(draw_clusters({"one": (pictures, many), "two": (pictures, other)}))
    assert shown == [[10 + 15 * i for i in range(10)], *([10 + 15 * i] for i in range(10))]


def test_patches_are_cut_from_their_images(empty):
    picture = plain(60, 20, 30)
    picture[:, 4:12, 16:24] = 180
    sheet = draw_clusters({"c": ([picture], [cluster_row("a", 0, 0, 1.0, (4, 16, 8, 8))])})
    assert rows_of(sheet) == [[180]]


def test_equal_artifacts_give_equal_bytes(drawn):
    classes = {"c": ([gradient(16, 16)], [score_row("a", 1.0, np.eye(4), (0, 0, 16, 16))])}
    drawn(classes)
    first = Path("x.png").read_bytes()
    drawn(classes)
    assert Path("x.png").read_bytes() == first
    assert Image.open(io.BytesIO(first)).mode == "RGB"


def test_images_by_reference_are_read_from_their_root(empty):
    Path("root").mkdir()
    data = encode(plain(99), "png")
    Path("root/x.png").write_bytes(data)
    row = {
        "image": {"bytes": None, "path": "x.png"},
        "class_id": "c",
        "image_id": "a",
        "split": "train",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    images = put("images", "c", "images.parquet", [row], REFERENCES_SCHEMA, {"index": INDEX})
    clusters = put("clusters", "c", "clusters.parquet", [cluster_row("a", 0, 0, 1.0)])
    files = {"clusters": {"c": clusters}, "images": {"c": images}}
    roots = {"s": str(Path("root").absolute())}
    params = {"title": "t", "files": files, "source_roots": roots}
    score_maps.clusters_figure({}, params, {"png": Path("x.png")})
    assert rows_of(np.asarray(Image.open("x.png")).astype(int)) == [[99]]
