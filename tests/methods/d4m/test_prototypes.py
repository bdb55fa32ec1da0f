import numpy as np
import pytest
import torch
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator
from stillhouse.diffusion import latents
from stillhouse.errors import StillhouseError
from stillhouse.methods.d4m import prototypes

cluster = pytest.importorskip("sklearn.cluster")


def points_of(n=40, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def centres(points, count, fit="full", expand=1, seed=0):
    return prototypes.centres(points, count, fit, expand, generator(seed, "prototypes", "a"))


def test_one_centre_of_all_is_their_mean():
    points = points_of()
    np.testing.assert_allclose(centres(points, 1), points.mean(0)[None], rtol=1e-12)


def test_clumps_far_apart_give_their_means():
    rng = np.random.default_rng(1)
    places = np.array([(0, 0), (100, 0), (0, 100)])
    points = np.repeat(places, 30, 0) + rng.normal(size=(90, 2))
    actual = centres(points, 3)
    distances = np.linalg.norm(actual[:, None] - places, axis=2)
    assert sorted(distances.argmin(1)) == [0, 1, 2]
    assert distances.min(1).max() < 1


@pytest.mark.parametrize("expand, steps", [(1, 10), (3, 3), (10, 1), (99, 1)])
def test_partial_takes_one_step_per_chunk_in_order_and_skips_the_rest(expand, steps):
    points, count = points_of(43), 4
    chunk = min(expand * count, 43)
    seed = int(generator(0, "prototypes", "a").integers(2**31))
    model = cluster.MiniBatchKMeans(count, random_state=seed, n_init=1)
    for i in range(steps):
        model.partial_fit(points[i * chunk : (i + 1) * chunk])
    actual = centres(points, count, "partial", expand)
    np.testing.assert_allclose(actual, model.cluster_centers_, rtol=1e-12)
    changed = points.copy()
    changed[steps * chunk :] += 5
    np.testing.assert_array_equal(centres(changed, count, "partial", expand), actual)


def test_one_prototype_by_steps_is_the_mean_of_all_chunks():
    points = points_of(7)
    np.testing.assert_allclose(centres(points, 1, "partial", 2)[0], points[:6].mean(0), rtol=1e-9)


def test_as_many_centres_as_points_are_the_points():
    points = points_of(5)
    actual = centres(points, 5, "partial")
    np.testing.assert_allclose(sorted(actual[:, 0]), sorted(points[:, 0]), rtol=1e-9)


@pytest.mark.parametrize("fit", ["full", "partial"])
def test_centres_belong_to_the_seed(fit):
    points = points_of()
    first = centres(points, 4, fit, 2)
    np.testing.assert_array_equal(centres(points, 4, fit, 2), first)
    assert not np.array_equal(centres(points, 4, fit, 2, seed=1), first)


class Stack:
    """Replaces the latents of a class."""

    def __init__(self, n):
        self.n = n

    def stacked(self, choice, class_id):
        seed = {"mode": 0, "sample": 1}[choice]
        return torch.from_numpy(points_of(self.n, 12, seed).astype(np.float32)).view(-1, 3, 2, 2)


@pytest.fixture
def make(monkeypatch, tmp_path):
    def make(ipc, n=20, **changes):
        monkeypatch.setattr(latents, "read", lambda path: Stack(n))
        settings = {"latents": "mode", "fit": "full", **changes}
        spec = {"settings": settings, "keys": {"ipc": ipc, "seed": 0}}
        inputs = {"latents": {"a": tmp_path / "a" / "latents.safetensors"}}
        stage = prototypes.prototypes(inputs, spec, Context())
        return stage("a", Context())["prototypes.safetensors"]["latents"]

    return make


@pytest.mark.parametrize("choice, seed", [("mode", 0), ("sample", 1)])
def test_latents_are_clustered_as_one_vector_each(make, choice, seed):
    actual = make(3, latents=choice)
    assert actual.dtype == torch.float32 and actual.shape == (3, 3, 2, 2)
    wanted = centres(points_of(20, 12, seed).astype(np.float32).astype(float), 3)
    np.testing.assert_allclose(actual.reshape(3, 12), wanted, rtol=1e-6)


def test_partial_needs_its_chunk(make):
    actual = make(4, fit="partial", expand=2)
    wanted = centres(points_of(20, 12).astype(np.float32).astype(float), 4, "partial", 2)
    np.testing.assert_allclose(actual.reshape(4, 12), wanted, rtol=1e-6)


def test_too_few_images_are_an_error_of_one_line(make):
    assert make(3, n=3).shape[0] == 3
    with pytest.raises(StillhouseError, match=r"class 'a': 3 images .* at most 3") as caught:
        make(4, n=3)
    assert "\n" not in str(caught.value)
