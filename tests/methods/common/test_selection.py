import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.methods.common.selection import herding, kmeans


def points_of(n=30, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def naive_herding(points, count):
    chosen = []
    for _ in range(count):
        costs = {
            i: np.linalg.norm(points.mean(0) - points[[*chosen, i]].mean(0))
            for i in range(len(points))
            if i not in chosen
        }
        chosen.append(min(costs, key=costs.get))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_herding_brings_the_mean_nearest_step_by_step(seed):
    points = points_of(seed=seed)
    assert herding(points, 12).tolist() == naive_herding(points, 12)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_herding_chooses_each_once_and_fewer_are_a_prefix(count, fewer, seed):
    points = points_of(20, 3, seed).round()
    order = herding(points, count).tolist()
    assert len(set(order)) == count
    assert herding(points, min(fewer, count)).tolist() == order[: min(fewer, count)]


def test_kmeans_takes_one_point_of_every_clump_nearest_to_its_mean():
    clumps = [(0, 0, 8), (50, 0, 5), (0, 50, 3)]
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.normal((x, y), 1, (n, 2)) for x, y, n in clumps])
    actual = kmeans(points, 3, np.random.default_rng(0)).tolist()
    starts, sizes = np.cumsum([0, 8, 5]), [8, 5, 3]
    wanted = [
        int(a + np.linalg.norm(points[a : a + n] - points[a : a + n].mean(0), axis=1).argmin())
        for a, n in zip(starts, sizes, strict=True)
    ]
    assert actual == wanted


def test_kmeans_depends_on_its_generator_alone():
    points = points_of(60)
    runs = [kmeans(points, 7, np.random.default_rng(seed)).tolist() for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 7


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@given(st.integers(1, 6), st.integers(0, 20))
def test_kmeans_chooses_each_once_even_of_points_that_coincide(count, seed):
    points = np.random.default_rng(seed).integers(0, 2, (6, 1)).astype(float)
    actual = kmeans(points, count, np.random.default_rng(0)).tolist()
    assert len(actual) == len(set(actual)) == count
