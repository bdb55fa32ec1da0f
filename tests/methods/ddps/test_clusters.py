import itertools

import numpy as np
import pyarrow as pa
import pytest
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.methods.common.features import WHOLE, features_table
from stillhouse.methods.ddps import class_scores, clusters

BOX = ("top", "left", "height", "width")


def put(directory, name, table):
    directory = directory.absolute()
    store.write(directory, {"address": str(directory)}, {name: table})
    return directory / name


def tables(names, scores, points):
    scored = pa.table(
        {
            "image_id": names,
            **{key: list(range(i, i + len(names))) for i, key in enumerate(BOX)},
            "score": scores,
            "map_height": [None] * len(names),
            "map": [None] * len(names),
        },
        schema=class_scores.SCHEMA,
    )
    return scored, features_table(names, [WHOLE] * len(names), np.asarray(points, np.float32))


def cluster(folder, scored, described, count=3, seed=0, class_id="cat"):
    inputs = {
        "scores": {class_id: put(folder / "scores" / class_id, "scores.parquet", scored)},
        "features": {class_id: put(folder / "features" / class_id, "features.parquet", described)},
    }
    spec = {"settings": {"clusters": count}, "keys": {"seed": seed}}
    make = clusters.clusters(inputs, spec, Context())
    table = make(class_id, Context())["clusters.parquet"]
    assert table.schema.equals(clusters.SCHEMA)
    return table.to_pylist()


def clumps(seed=0, sizes=(8, 5, 7)):
    """Return names, scores and points of three clumps far apart, in a random order."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    points = np.array([(0, 0), (50, 0), (0, 50)])[label] + rng.normal(size=(len(label), 2))
    scores = rng.normal(size=len(label)) - label
    names = [f"image-{i:02d}" for i in range(len(label))]
    return names, scores.astype(np.float32), points.astype(np.float32), label


def test_clusters_are_ranked_by_median_score_and_patches_by_distance(tmp_path):
    names, scores, points, label = clumps()
    rows = cluster(tmp_path, *tables(names, scores, points))
    actual = {row["image_id"]: row for row in rows}
    medians = [np.median(scores[label == k]) for k in range(3)]
    # The best single score lies in a cluster that is not first: a mean or maximum would differ.
    for place, k in enumerate(np.argsort(medians)[::-1]):
        members = np.flatnonzero(label == k)
        distances = np.linalg.norm(points[members] - points[members].mean(0), axis=1)
        for rank, i in enumerate(np.argsort(distances)):
            row = actual[names[members[i]]]
            assert (row["cluster_rank"], row["rank"]) == (place, rank)
            assert row["distance"] == pytest.approx(distances[i], rel=1e-5)
            assert row["score"] == scores[members[i]]
            assert [row[key] for key in BOX] == [members[i] + n for n in range(4)]
    assert [(r["cluster_rank"], r["rank"]) for r in rows] == sorted(
        (r["cluster_rank"], r["rank"]) for r in rows
    )


def test_the_median_decides_not_the_mean():
    label = np.repeat([0, 1], 3)
    scores = np.array([9, 0, 0, 1, 1, 1], np.float32)
    cluster_rank, _ = clusters.ranks(label, np.zeros(6), scores)
    assert cluster_rank.tolist() == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_changes_nothing(tmp_path, seed):
    rng = np.random.default_rng(seed)
    names = [f"{i}" for i in range(40)]
    points = rng.normal(size=(40, 3)).astype(np.float32)
    scores = rng.integers(0, 4, 40).astype(np.float32)  # with ties
    scored, described = tables(names, scores, points)
    first = cluster(tmp_path / "a", scored, described, 8)
    other = cluster(
        tmp_path / "b", scored.take(rng.permutation(40)), described.take(rng.permutation(40)), 8
    )
    assert other == first


def test_two_patches_of_a_cluster_are_equally_near_and_go_by_their_ids(tmp_path):
    rng = np.random.default_rng(5)
    for number, name in enumerate(itertools.permutations("ab")):
        points = rng.normal(size=(2, 5))
        rows = cluster(tmp_path / str(number), *tables(list(name), [1.0, 2.0], points), 1)
        assert [row["image_id"] for row in rows] == ["a", "b"]
        assert rows[0]["distance"] == rows[1]["distance"]


def test_ties_are_decided_in_the_precision_that_is_stored():
    rng = np.random.default_rng(0)
    for points in rng.normal(size=(50, 2, 300)):
        cluster, distance = clusters.fit(points, 1, np.random.default_rng(0))
        _, rank = clusters.ranks(cluster, distance, np.zeros(2))
        assert rank.tolist() == [0, 1]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n, distinct", [(1, 1), (2, 2), (5, 5), (6, 1), (6, 3)])
def test_fewer_points_than_clusters_and_points_that_coincide(tmp_path, n, distinct):
    points = np.arange(n)[:, None] % distinct * [[1.0, 2.0]]
    rows = cluster(tmp_path, *tables([f"{i}" for i in range(n)], [0.5] * n, points), 32)
    assert len(rows) == n
    assert {row["cluster_rank"] for row in rows} == set(range(distinct))
    assert all(row["distance"] == pytest.approx(0, abs=1e-6) for row in rows)
    for place in range(distinct):
        members = [row for row in rows if row["cluster_rank"] == place]
        assert [row["rank"] for row in members] == list(range(len(members)))
        assert [row["image_id"] for row in members] == sorted(row["image_id"] for row in members)


def test_clusters_belong_to_the_seed():
    points = np.random.default_rng(0).normal(size=(60, 2))

    def label(*address):
        return clusters.fit(points, 12, generator(*address))[0].tolist()

    assert label(0, "clusters", "a") == label(0, "clusters", "a")
    assert label(0, "clusters", "a") != label(1, "clusters", "a")
    assert label(0, "clusters", "a") != label(0, "clusters", "b")


def test_each_class_is_read_from_its_own_files(tmp_path):
    inputs = {"scores": {}, "features": {}}
    for class_id, shift in (("a", 0), ("b", 1)):
        names, scores, points, _ = clumps(shift)
        scored, described = tables([class_id + name for name in names], scores, points)
        inputs["scores"][class_id] = put(tmp_path / "s" / class_id, "scores.parquet", scored)
        inputs["features"][class_id] = put(tmp_path / "f" / class_id, "features.parquet", described)
    spec = {"settings": {"clusters": 3}, "keys": {"seed": 0}}
    make = clusters.clusters(inputs, spec, Context())
    for class_id in "ab":
        actual = make(class_id, Context())["clusters.parquet"].to_pylist()
        assert {row["image_id"][0] for row in actual} == {class_id}
