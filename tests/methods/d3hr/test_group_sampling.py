import itertools
import math
from pathlib import Path

import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.jobs import Context
from stillhouse.errors import StillhouseError
from stillhouse.methods.d3hr import group_sampling, samples
from stillhouse.methods.d3hr.group_sampling import Candidates, GroupLoss, search, whiten
from stillhouse.training.loop import SideFile

CPU = torch.device("cpu")
PAPER = {
    "sampler": "search",
    "candidates": 300,
    "variance": 1.0,
    "terms": "squared",
    "std": "target",
    "skewness": "group",
    "weights": {"mean": 1.0, "std": 1.0, "skewness": 0.5},
}
CODE = {**PAPER, "terms": "norm", "std": "own", "skewness": "latent"}
SWITCHES = [
    dict(zip(("terms", "std", "skewness"), values, strict=True))
    for values in itertools.product(("squared", "norm"), ("target", "own"), ("group", "latent"))
]


def gaussian(d=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mean = torch.randn(d, generator=rng, dtype=torch.float64)
    return mean, torch.rand(d, generator=rng, dtype=torch.float64) + 0.5


def skewness_of(values):
    """Skewness of a list of numbers, about its own mean and unbiased std."""
    n, mean = len(values), sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return n / ((n - 1) * (n - 2)) * sum(((v - mean) / std) ** 3 for v in values)


def naive(latents, mean, std, settings):
    """The terms of one group of latents (n, d), with loops: paper eq. 6-8 and official code."""
    n, d = latents.shape
    z, mu, sigma = latents.tolist(), mean.tolist(), std.tolist()
    columns = [[row[k] for row in z] for k in range(d)]
    errors = {"mean": [sum(c) / n - mu[k] for k, c in enumerate(columns)], "std": [0.0]}
    if settings["std"] == "target":
        spreads = [math.sqrt(sum((v - mu[k]) ** 2 for v in c) / n) for k, c in enumerate(columns)]
        errors["std"] = [s - sigma[k] for k, s in enumerate(spreads)]
    elif n > 1:
        own = torch.tensor(columns, dtype=torch.float64).std(1).tolist()
        errors["std"] = [s - sigma[k] for k, s in enumerate(own)]
    if settings["skewness"] == "latent":
        errors["skewness"] = [skewness_of(row) for row in z]
    elif n > 2:
        factor = n / ((n - 1) * (n - 2))
        errors["skewness"] = [
            factor * sum(((v - mu[k]) / sigma[k]) ** 3 for v in c) for k, c in enumerate(columns)
        ]
    else:
        errors["skewness"] = [0.0]
    terms = {name: sum(e**2 for e in values) for name, values in errors.items()}
    if settings["terms"] == "norm":
        terms = {name: math.sqrt(value) for name, value in terms.items()}
    else:
        terms = {name: value / len(errors[name]) for name, value in terms.items()}
    total = sum(settings["weights"][name] * value for name, value in terms.items())
    return [total, terms["mean"], terms["std"], terms["skewness"]]


def scored(*arguments, **options):
    """Return a `GroupLoss` that gives tensors."""
    loss = GroupLoss(*arguments, **options)
    return lambda normals: torch.from_numpy(loss(normals))


@pytest.mark.parametrize("ipc", [1, 2, 3, 10])
@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(s.values()))
def test_terms_are_those_of_the_formulas(switches, ipc):
    settings = {**PAPER, **switches, "weights": {"mean": 0.7, "std": 1.3, "skewness": 0.4}}
    mean, std = gaussian()
    normals = torch.randn(4, ipc, 12, generator=torch.Generator().manual_seed(1)).double()
    before = normals.clone()
    found = scored(mean, std, ipc, settings)(normals)
    expected = [naive(mean + std * group, mean, std, settings) for group in normals]
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64).T, rtol=1e-9, atol=1e-12
    )
    assert (normals == before).all()
    single = scored(mean.float(), std.float(), ipc, settings)(normals.float())
    torch.testing.assert_close(single, found.float(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(s.values()))
@pytest.mark.parametrize("kept", ["mean", "std", "skewness"])
def test_a_term_of_weight_zero_is_left_out_or_told(switches, kept):
    weights = {term: float(term == kept) for term in group_sampling.TERMS}
    settings, (mean, std) = {**PAPER, **switches, "weights": weights}, gaussian()
    normals = torch.randn(5, 4, 12, generator=torch.Generator().manual_seed(1)).double()
    every = scored(mean, std, 4, settings, every=True)(normals)
    loss = scored(mean, std, 4, settings)
    for _ in range(2):
        some = loss(normals)
        torch.testing.assert_close(some[0], every[0])
        assert [bool(term.any()) for term in some[1:]] == [t == kept for t in group_sampling.TERMS]
    assert (every[1:] > 0).all()


def test_dimensions_without_spread_cost_nothing():
    mean, std = gaussian(6)
    std[2] = 0
    normals = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    found = scored(mean, std, 4, {**PAPER, "terms": "norm"})(normals)
    rest = [0, 1, 3, 4, 5]
    without = scored(mean[rest], std[rest], 4, {**PAPER, "terms": "norm"})(normals[:, :, rest])
    torch.testing.assert_close(found, without)
    flat = scored(torch.ones(6), torch.zeros(6), 4, CODE)(normals.float())
    assert (flat == 0).all()


def brute_force(mean, variance, ipc, settings, seed, class_id):
    """All candidates at once, each scored by the naive formulas."""
    std = (variance * settings["variance"]).sqrt()
    found = Candidates(seed, class_id, ipc, len(mean), CPU)
    n_chunks = -(-settings["candidates"] // found.size)
    normals = torch.cat([found.chunk(k).clone() for k in range(n_chunks)]).double()
    normals = normals[: settings["candidates"]]
    if settings["sampler"] == "exact":
        middle = normals.mean(1, keepdim=True)
        own = settings["std"] == "own"
        normals = (normals - middle) / normals.std(1, correction=int(own), keepdim=True)
    losses = [naive(mean + std * group, mean, std, settings) for group in normals]
    winner = min(range(len(losses)), key=lambda i: losses[i][0])
    return mean + std * normals[winner], winner, losses[winner]


@pytest.mark.parametrize("base", [PAPER, CODE], ids=["paper", "code"])
@pytest.mark.parametrize("sampler", ["search", "exact"])
@pytest.mark.parametrize("chunk", [7 * 48, 2**19])
def test_the_winner_is_the_best_of_all(base, sampler, chunk, monkeypatch):
    monkeypatch.setitem(group_sampling.CHUNK, "cpu", chunk)
    settings = {**base, "sampler": sampler, "candidates": 100, "variance": 0.8}
    mean, std = gaussian()
    latents, winner, losses, _ = search(mean, std**2, 4, settings, 3, "cat", CPU)
    expected = brute_force(mean, std**2, 4, settings, 3, "cat")
    assert winner == expected[1]
    torch.testing.assert_close(latents, expected[0].float())
    torch.testing.assert_close(losses, torch.tensor(expected[2]), rtol=1e-5, atol=1e-7)


def test_more_candidates_extend_fewer(monkeypatch):
    monkeypatch.setitem(group_sampling.CHUNK, "cpu", 48 * 16)
    mean, std = gaussian()
    found = {
        m: search(mean, std**2, 4, {**PAPER, "candidates": m}, 0, "cat", CPU)
        for m in (1, 10, 100, 101, 1000)
    }
    totals = [float(losses[0]) for _, _, losses, _ in found.values()]
    assert totals == sorted(totals, reverse=True) and totals[-1] < totals[0]
    assert all(winner < m for m, (_, winner, _, _) in found.items())
    _, winner, losses, first = found[1]
    assert winner == 0 and torch.equal(losses, first)
    # With as many as the winner needs, and with no more, it wins.
    _, winner, losses, first = found[1000]
    again = search(mean, std**2, 4, {**PAPER, "candidates": winner + 1}, 0, "cat", CPU)
    assert again[1] == winner and torch.equal(again[0], found[1000][0])
    assert all(torch.equal(one[3], first) for one in found.values())


def test_results_depend_on_their_address_alone():
    mean, std = gaussian()
    runs = [
        search(mean, std**2, 3, PAPER, seed, class_id, CPU)[0]
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
    latents, _, losses, first = search(mean, sigma**2, ipc, settings, 0, "cat", CPU)
    torch.testing.assert_close(latents.mean(0), mean.float(), rtol=0, atol=2e-6)
    spread = latents.double().std(0, correction=int(std == "own"))
    torch.testing.assert_close(spread, sigma * 1.5**0.5, rtol=1e-5, atol=0)
    assert losses[1] < 1e-10 and losses[2] < 1e-10 < first[1]


def test_an_exact_group_is_searched_for_its_skewness():
    mean, std = gaussian()
    settings = {**PAPER, "sampler": "exact", "weights": {"mean": 1, "std": 1, "skewness": 0}}
    assert search(mean, std**2, 5, settings, 0, "cat", CPU)[1] == 0
    one, many = (
        search(mean, std**2, 5, {**PAPER, "sampler": "exact", "candidates": m}, 0, "cat", CPU)
        for m in (1, 300)
    )
    assert many[1] > 0 and many[2][3] < one[2][3]


@pytest.mark.parametrize("base", [PAPER, CODE], ids=["paper", "code"])
def test_one_latent_is_searched_even_when_exact(base):
    mean, std = gaussian()
    runs = [
        search(mean, std**2, 1, {**base, "sampler": sampler}, 0, "cat", CPU)
        for sampler in ("search", "exact")
    ]
    assert torch.equal(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1] > 0
    assert torch.isfinite(runs[0][0]).all() and (runs[0][0] - mean).abs().max() > 0.1


@pytest.mark.parametrize("base", [PAPER, CODE], ids=["paper", "code"])
@pytest.mark.parametrize("sampler", ["search", "exact"])
@pytest.mark.parametrize("ipc", [1, 2, 3])
def test_small_groups_have_finite_losses_and_get_better(base, sampler, ipc):
    mean, std = gaussian()
    found = search(mean, std**2, ipc, {**base, "sampler": sampler}, 0, "cat", CPU)
    latents, _, losses, first = found
    assert torch.isfinite(latents).all() and torch.isfinite(losses).all()
    assert losses[0] < first[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whitening_a_group_without_spread_makes_it_zero(dtype):
    normals = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    normals[0, :, 1] = 1.7
    whiten(normals, False)
    assert normals[0, :, 1].abs().max() < 0.02
    kept = torch.cat([normals[1].T, normals[0].T[[0, 2, 3, 4]]])
    torch.testing.assert_close(kept.mean(1), torch.zeros(9, dtype=dtype), rtol=0, atol=1e-6)
    torch.testing.assert_close(kept.square().mean(1), torch.ones(9, dtype=dtype))


@pytest.mark.parametrize(("ipc", "d"), [(1, 64), (10, 64), (10, 4096), (50, 4096), (500, 4096)])
def test_a_chunk_is_small_and_its_numbers_are_normal(ipc, d):
    found = Candidates(0, "a", ipc, d, CPU)
    values = found.chunk(0)
    assert values.shape[0] == 1 or values.numel() <= group_sampling.CHUNK["cpu"]
    n = values.numel()
    assert abs(float(values.double().mean())) < 5 / n**0.5
    assert abs(float(values.double().square().mean()) - 1) < 5 * (2 / n) ** 0.5


def inversion(mean, variance, snapshots=(24, 31), shape=(3, 2, 2), count=9):
    return {
        "mean": torch.stack([mean.float() + i for i in range(len(snapshots))]),
        "variance": torch.stack([variance.float() * (i + 1) for i in range(len(snapshots))]),
        "snapshots": torch.tensor(snapshots),
        "count": torch.tensor([count]),
        "shape": torch.tensor(shape),
    }


def put(tensors, class_id="cat"):
    """Write an inversion as an artifact; return its file."""
    address = f"results/inversion/x-00000000/{class_id}"
    spec = {"address": address, "stage": "inversion"}
    store.write(address, spec, {"inversion.safetensors": tensors})
    return Path(address) / "inversion.safetensors"


def sampled(path, ipc=4, seed=0, class_id="cat", **changes):
    settings = {**PAPER, "draw_on": "cpu", "snapshot": 31, **changes}
    spec = {"settings": settings, "keys": {"ipc": ipc, "seed": seed}}
    make = samples.samples({"inversion": [path]}, spec, Context())
    return make(class_id, Context())["samples.safetensors"]


def test_stage_takes_the_snapshot_and_gives_latents_their_shape(empty):
    mean, std = gaussian()
    path = put(inversion(mean, std**2))
    expected = search(mean.float() + 1, (std**2).float() * 2, 4, PAPER, 0, "cat", CPU)
    found = sampled(path)
    assert found["latents"].shape == (4, 3, 2, 2) and found["latents"].dtype == torch.float32
    torch.testing.assert_close(found["latents"].flatten(1), expected[0])
    assert found["winner"].tolist() == [expected[1]] and found["winner"].dtype == torch.int64
    assert found["losses"].shape == found["first"].shape == (4,)
    assert found["losses"][0] < found["first"][0]


def test_stage_names_what_is_wrong(empty):
    mean, std = gaussian()
    path = put(inversion(mean, std**2))
    with pytest.raises(StillhouseError, match=r"snapshot: is 30, but .* has 24, 31") as error:
        sampled(path, snapshot=30)
    assert "\n" not in str(error.value)
    with pytest.raises(StillhouseError, match="draw_on: is 'cuda'"):
        sampled(path, draw_on="cuda")
    for k, wrong in enumerate((math.nan, math.inf, -1.0)):
        alone = put(inversion(mean, std**2 * wrong, count=1), f"dog{k}")
        with pytest.raises(StillhouseError, match=rf"class dog{k}: .* 1 inverted latents"):
            sampled(alone, class_id=f"dog{k}")


@pytest.mark.parametrize("seconds", [0, 1000])
def test_a_killed_search_goes_on_after_a_chunk(tmp_path, monkeypatch, interrupt, seconds):
    monkeypatch.setitem(group_sampling.CHUNK, "cpu", 400)
    mean, std = gaussian()
    settings = {**PAPER, "candidates": 60}
    whole = search(mean, std**2, 4, settings, 0, "cat", CPU)
    context = Context(work=tmp_path, checkpoint_seconds=seconds)
    calls = interrupt(group_sampling.Candidates, "chunk", 5)
    with pytest.raises(KeyboardInterrupt):
        search(mean, std**2, 4, settings, 0, "cat", CPU, SideFile(context))
    before = len(calls)
    found = search(mean, std**2, 4, settings, 0, "cat", CPU, SideFile(context))
    n_chunks = math.ceil(60 / (400 // (4 * len(mean))))
    # Two more chunks are drawn for the first candidate and the winner.
    assert len(calls) - before == n_chunks + 2 - (4 if seconds == 0 else 0)
    assert torch.equal(found[0], whole[0]) and found[1] == whole[1]
