import math

import pytest
import torch
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context
from stillhouse.methods.d3hr import group_sampling
from stillhouse.methods.d3hr.group_loss import group_loss
from stillhouse.methods.d3hr.group_sampling import Candidates, search, whiten

CPU = torch.device("cpu")
PAPER = {
    "sampler": "search",
    "candidates": 300,
    "variance": 1.0,
    "terms": "squared",
    "std": "target",
    "skewness": "group",
    "loss_weights": {"mean": 1.0, "std": 1.0, "skewness": 0.5},
}
CODE = {**PAPER, "terms": "norm", "std": "own", "skewness": "members"}


def gaussian(d=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mean = torch.randn(d, generator=rng, dtype=torch.float64)
    return mean, torch.rand(d, generator=rng, dtype=torch.float64) + 0.5


def brute_force(mean, variance, ipc, settings, seed, class_id):
    """Return the best of all candidates, each scored by the plain formulas."""
    std = (variance * settings["variance"]).sqrt()
    actual = Candidates(seed, class_id, ipc, len(mean), CPU)
    n_chunks = -(-settings["candidates"] // actual.size)
    normals = torch.cat([actual.chunk(k).clone() for k in range(n_chunks)]).double()
    normals = normals[: settings["candidates"]]
    if settings["sampler"] == "exact":
        middle = normals.mean(1, keepdim=True)
        own = settings["std"] == "own"
        normals = (normals - middle) / normals.std(1, correction=int(own), keepdim=True)
    losses = [group_loss(mean + std * group, mean, std, settings) for group in normals]
    losses = [[float(total), *map(float, terms.values())] for total, terms in losses]
    winner = min(range(len(losses)), key=lambda i: losses[i][0])
    return mean + std * normals[winner], winner, losses[winner]


@pytest.mark.parametrize("base", [PAPER, CODE], ids=["paper", "code"])
@pytest.mark.parametrize("sampler", ["search", "exact"])
@pytest.mark.parametrize("chunk", [7 * 48, 2**19])
def test_the_winner_is_the_best_of_all(base, sampler, chunk, monkeypatch):
    monkeypatch.setitem(group_sampling.CHUNK, "cpu", chunk)
    settings = {**base, "sampler": sampler, "candidates": 100, "variance": 0.8}
    mean, std = gaussian()
    latents, winner, losses, _ = search(mean, std**2, 4, settings, (3, "cat"), CPU)
    expected = brute_force(mean, std**2, 4, settings, 3, "cat")
    assert winner == expected[1]
    torch.testing.assert_close(latents, expected[0].float())
    torch.testing.assert_close(losses, torch.tensor(expected[2]), rtol=1e-5, atol=1e-7)


def test_more_candidates_extend_fewer(monkeypatch):
    monkeypatch.setitem(group_sampling.CHUNK, "cpu", 48 * 16)
    mean, std = gaussian()
    actual = {
        m: search(mean, std**2, 4, {**PAPER, "candidates": m}, (0, "cat"), CPU)
        for m in (1, 10, 100, 101, 1000)
    }
    totals = [float(losses[0]) for _, _, losses, _ in actual.values()]
    assert totals == sorted(totals, reverse=True) and totals[-1] < totals[0]
    assert all(winner < m for m, (_, winner, _, _) in actual.items())
    _, winner, losses, first = actual[1]
    assert winner == 0 and torch.equal(losses, first)
    # The winner is selected as soon as it is among the candidates.
    _, winner, losses, first = actual[1000]
    again = search(mean, std**2, 4, {**PAPER, "candidates": winner + 1}, (0, "cat"), CPU)
    assert again[1] == winner and torch.equal(again[0], actual[1000][0])
    assert all(torch.equal(one[3], first) for one in actual.values())


def test_results_depend_on_their_address_alone():
    mean, std = gaussian()
    runs = [
        search(mean, std**2, 3, PAPER, (seed, class_id), CPU)[0]
        for seed, class_id in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    ]
    assert torch.equal(runs[0], runs[1])
    assert len({tuple(run.flatten().tolist()) for run in runs}) == 3
    chunks = Candidates(0, "a", 3, 12, CPU)
    assert not torch.equal(chunks.chunk(0).clone(), chunks.chunk(1))


@pytest.mark.parametrize("std", ["target", "own"])
@pytest.mark.parametrize("ipc", [2, 3, 10])
def test_an_exact_group_has_the_mean_and_std_of_its_class(ipc, std):
    settings = {**PAPER, "sampler": "exact", "std": std, "candidates": 50, "variance": 1.5}
    mean, sigma = gaussian(64)
    latents, _, losses, first = search(mean, sigma**2, ipc, settings, (0, "cat"), CPU)
    torch.testing.assert_close(latents.mean(0), mean.float(), rtol=0, atol=2e-6)
    spread = latents.double().std(0, correction=int(std == "own"))
    torch.testing.assert_close(spread, sigma * 1.5**0.5, rtol=1e-5, atol=0)
    assert losses[1] < 1e-10 and losses[2] < 1e-10 < first[1]


def test_an_exact_group_is_searched_for_its_skewness():
    mean, std = gaussian()
    settings = {**PAPER, "sampler": "exact", "loss_weights": {"mean": 1, "std": 1, "skewness": 0}}
    assert search(mean, std**2, 5, settings, (0, "cat"), CPU)[1] == 0
    single, many = (
        search(mean, std**2, 5, {**PAPER, "sampler": "exact", "candidates": m}, (0, "cat"), CPU)
        for m in (1, 300)
    )
    assert many[1] > 0 and many[2][3] < single[2][3]


@pytest.mark.parametrize("base", [PAPER, CODE], ids=["paper", "code"])
def test_one_latent_is_searched_even_when_exact(base):
    mean, std = gaussian()
    runs = [
        search(mean, std**2, 1, {**base, "sampler": sampler}, (0, "cat"), CPU)
        for sampler in ("search", "exact")
    ]
    assert torch.equal(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1] > 0
    assert torch.isfinite(runs[0][0]).all() and (runs[0][0] - mean).abs().max() > 0.1


@pytest.mark.parametrize("base", [PAPER, CODE], ids=["paper", "code"])
@pytest.mark.parametrize("sampler", ["search", "exact"])
@pytest.mark.parametrize("ipc", [1, 2, 3])
def test_small_groups_have_finite_losses_and_get_better(base, sampler, ipc):
    mean, std = gaussian()
    actual = search(mean, std**2, ipc, {**base, "sampler": sampler}, (0, "cat"), CPU)
    latents, _, losses, first = actual
    assert torch.isfinite(latents).all() and torch.isfinite(losses).all()
    assert losses[0] < first[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whitening_a_group_without_spread_makes_it_zero(dtype):
    normals = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    normals[0, :, 1] = 1.7
    whiten(normals, False)
    assert normals[0, :, 1].abs().max() < 0.02
    varying = torch.cat([normals[1].T, normals[0].T[[0, 2, 3, 4]]])
    torch.testing.assert_close(varying.mean(1), torch.zeros(9, dtype=dtype), rtol=0, atol=1e-6)
    torch.testing.assert_close(varying.square().mean(1), torch.ones(9, dtype=dtype))


@pytest.mark.parametrize(("ipc", "d"), [(1, 64), (10, 64), (10, 4096), (50, 4096), (500, 4096)])
def test_a_chunk_is_small_and_its_numbers_are_normal(ipc, d):
    actual = Candidates(0, "a", ipc, d, CPU)
    values = actual.chunk(0)
    assert values.shape[0] == 1 or values.numel() <= group_sampling.CHUNK["cpu"]
    n = values.numel()
    assert abs(float(values.double().mean())) < 5 / n**0.5
    assert abs(float(values.double().square().mean()) - 1) < 5 * (2 / n) ** 0.5


@pytest.mark.parametrize("seconds", [0, 1000])
def test_a_killed_search_resumes_after_a_chunk(tmp_path, monkeypatch, interrupt, seconds):
    monkeypatch.setitem(group_sampling.CHUNK, "cpu", 400)
    mean, std = gaussian()
    settings = {**PAPER, "candidates": 60}
    undisturbed = search(mean, std**2, 4, settings, (0, "cat"), CPU)
    context = Context(work=tmp_path, checkpoint_seconds=seconds)
    calls = interrupt(group_sampling.Candidates, "chunk", 5)
    with pytest.raises(KeyboardInterrupt):
        search(mean, std**2, 4, settings, (0, "cat"), CPU, Checkpoint(context))
    before = len(calls)
    actual = search(mean, std**2, 4, settings, (0, "cat"), CPU, Checkpoint(context))
    n_chunks = math.ceil(60 / (400 // (4 * len(mean))))
    # Two more chunks are drawn for the first candidate and the winner.
    assert len(calls) - before == n_chunks + 2 - (4 if seconds == 0 else 0)
    assert torch.equal(actual[0], undisturbed[0]) and actual[1] == undisturbed[1]
