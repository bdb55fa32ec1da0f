import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.data.class_images import IMAGES_SCHEMA
from stillhouse.data.codecs import encode
from stillhouse.data.transforms import cut
from stillhouse.methods.ddps import class_scores, clusters
from stillhouse.methods.ddps import images as ddps

BOX = ("top", "left", "height", "width")


def rows_of(sizes, seed=0):
    """Return the rows of a table of clusters, best cluster first, with distinct scores."""
    rng = np.random.default_rng(seed)
    scores = iter(rng.permutation(sum(sizes)) / 8)
    return [
        {
            "image_id": f"{place}.{rank}",
            "top": rank % 3,
            "left": place % 3,
            "height": 8,
            "width": 8,
            "score": float(next(scores)),
            "cluster": len(sizes) - place,
            "distance": rank / 4,
            "cluster_rank": place,
            "rank": rank,
        }
        for place, size in enumerate(sizes)
        for rank in range(size)
    ]


def naive(rows, ipc, variant, n_clusters=10):
    """Return the ids that the supplement's section 5 selects, as a set."""
    needed = 4 * ipc if variant == "concat" else ipc
    share = 4 * ipc // n_clusters if variant == "concat" else ipc // n_clusters
    chosen = set()
    for place in range(n_clusters):
        members = [row for row in rows if row["cluster_rank"] == place]
        nearest = sorted(members, key=lambda row: row["distance"])[:share]
        chosen |= {row["image_id"] for row in nearest}
    rest = [row for row in rows if row["image_id"] not in chosen]
    for row in sorted(rest, key=lambda row: -row["score"])[: needed - len(chosen)]:
        chosen.add(row["image_id"])
    return chosen


def ids(rows):
    return [row["image_id"] for row in rows]


@given(st.sampled_from(["concat", "single"]), st.integers(1, 100), st.integers(1, 30))
def test_patches_are_selected_as_in_the_paper(variant, ipc, size):
    rows = rows_of([size] * 32)
    count = ipc * 4 if variant == "concat" else ipc
    actual = ids(ddps.select_patches(rows, count, 10))
    assert len(actual) == len(set(actual)) == min(count, len(rows))
    assert set(actual) == naive(rows, ipc, variant)


def test_ten_images_of_four_patches_are_four_of_each_of_ten_clusters():
    actual = ids(ddps.select_patches(rows_of([9] * 32), 40, 10))
    assert actual == [f"{place}.{rank}" for rank in range(4) for place in range(10)]


def test_a_hundred_single_patches_are_ten_of_each_of_ten_clusters():
    actual = ids(ddps.select_patches(rows_of([12] * 32), 100, 10))
    assert sorted(actual) == sorted(f"{p}.{r}" for r in range(10) for p in range(10))


def test_below_one_patch_a_cluster_the_score_decides():
    rows = rows_of([5] * 32)
    best = sorted(rows, key=lambda row: -row["score"])
    assert ids(ddps.select_patches(rows, 4, 10)) == ids(best[:4])  # IPC 1, concatenated
    assert ids(ddps.select_patches(rows, 9, 10)) == ids(best[:9])  # IPC 9, single


def test_eleven_to_nineteen_take_one_of_each_cluster_and_the_rest_by_score():
    rows = rows_of([5] * 32)
    actual = ids(ddps.select_patches(rows, 15, 10))
    assert actual[:10] == [f"{place}.0" for place in range(10)]
    rest = [row for row in rows if row["image_id"] not in actual[:10]]
    assert actual[10:] == ids(sorted(rest, key=lambda row: -row["score"])[:5])


def test_small_clusters_are_completed_by_score_from_any_cluster():
    rows = rows_of([2, 9, 9])
    rows[-1]["score"], rows[5]["score"] = 99.0, 98.0
    actual = ids(ddps.select_patches(rows, 8, 2))
    assert actual == ["0.0", "1.0", "0.1", "1.1", "2.8", "1.2", actual[6], "1.3"]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 60), st.integers(1, 12))
def test_the_order_of_rows_and_ties_changes_nothing(sizes, count, n_clusters):
    rows = rows_of(sizes)
    for row in rows:
        row["score"] = round(row["score"])
    actual = ids(ddps.select_patches(rows, count, n_clusters))
    assert actual == ids(ddps.select_patches(rows[::-1], count, n_clusters))
    assert len(set(actual)) == len(actual) == min(count, len(rows))


@pytest.fixture
def files(tmp_path):
    """Return the inputs of a class of 3 × 4 patches, its pixels by image id, and its rows."""
    rows = rows_of([4, 4, 4])
    rng = np.random.default_rng(1)
    pixels = {n: rng.integers(0, 256, (3, 11, 12), dtype=np.uint8) for n in ids(rows)}

    def put(stage, name, table):
        directory = (tmp_path / stage / "cat").absolute()
        store.write(directory, {"address": str(directory)}, {name: table})
        return {"cat": directory / name}

    images = pa.table(
        {
            "image": [{"bytes": encode(p, "png"), "path": ""} for p in pixels.values()],
            "class_id": ["cat"] * len(rows),
            "image_id": list(pixels),
            "split": ["train"] * len(rows),
        },
        schema=IMAGES_SCHEMA,
    )
    scored = {name: [row.get(name) for row in rows] for name in class_scores.SCHEMA.names}
    clustered = pa.Table.from_pylist(rows, schema=clusters.SCHEMA)
    inputs = {
        "images": put("images", "images.parquet", images),
        "clusters": put("clusters", "clusters.parquet", clustered),
        "scores": put("scores", "scores.parquet", pa.table(scored, schema=class_scores.SCHEMA)),
    }
    return inputs, pixels, rows


def distil(inputs, ipc, **changes):
    settings = {"resolution": 6, "patches_per_side": 2, "ranking": "clusters"}
    settings |= {"clusters_used": 3, **changes}
    spec = {"settings": settings, "keys": {"ipc": ipc, "seed": 0}}
    return ddps.images_of_class(inputs, spec, "cat", Context())


def by_hand(pixels, row, side):
    box = torch.tensor([[row[key] for key in BOX]])
    patch = cut(torch.from_numpy(pixels[row["image_id"]])[None], box, side)[0]
    return patch.round().clamp(0, 255).to(torch.uint8).numpy()


def test_single_patches_fill_an_image(files):
    inputs, pixels, rows = files
    actual = distil(inputs, 3, patches_per_side=1)
    for (image, origin), row in zip(actual, ddps.select_patches(rows, 3, 3), strict=True):
        np.testing.assert_array_equal(image, by_hand(pixels, row, 6))
        assert origin == [{key: row[key] for key in ("image_id", *BOX)}]


def test_four_patches_of_one_cluster_share_an_image(files):
    inputs, pixels, rows = files
    actual = distil(inputs, 3)
    by_id = {row["image_id"]: row for row in rows}
    for place, (image, origin) in enumerate(actual):
        assert [part["image_id"] for part in origin] == [f"{place}.{rank}" for rank in range(4)]
        corners = [image[:, y : y + 3, x : x + 3] for y in (0, 3) for x in (0, 3)]
        for corner, part in zip(corners, origin, strict=True):
            row = by_id[part["image_id"]]
            np.testing.assert_array_equal(corner, by_hand(pixels, row, 3))
            assert {key: row[key] for key in part} == part


def test_without_clusters_the_best_scores_are_taken_and_no_clusters_read(files):
    inputs, _, rows = files
    del inputs["clusters"]
    actual = distil(inputs, 5, patches_per_side=1, ranking="score")
    best = sorted(rows, key=lambda row: -row["score"])[:5]
    assert [origin[0]["image_id"] for _, origin in actual] == ids(best)


@pytest.mark.parametrize("ranking", ["clusters", "score"])
def test_too_few_patches_give_fewer_complete_images(files, ranking):
    inputs, _, _ = files
    assert len(distil(inputs, 4, ranking=ranking)) == 3
    assert len(distil(inputs, 99, patches_per_side=1, ranking=ranking)) == 12
