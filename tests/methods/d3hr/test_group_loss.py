import math

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from stillhouse.methods.d3hr.group_loss import TERMS, GroupLoss, group_loss

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
SWITCHES = st.fixed_dictionaries(
    {
        "terms": st.sampled_from(["squared", "norm"]),
        "std": st.sampled_from(["target", "own"]),
        "skewness": st.sampled_from(["group", "members"]),
    }
)


def gaussian(d=12, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mean = torch.randn(d, generator=rng, dtype=torch.float64)
    return mean, torch.rand(d, generator=rng, dtype=torch.float64) + 0.5


def standardised(values):
    """Return numbers about their own mean and over their unbiased std; 0 for a single one."""
    n, mean = len(values), sum(values) / len(values)
    std = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.inf
    return [(v - mean) / std for v in values]


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
    if settings["skewness"] == "members":
        members = zip(*map(standardised, columns), strict=True)
        factor = d / ((d - 1) * (d - 2))
        errors["skewness"] = [factor * sum(x**3 for x in row) for row in members]
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
    total = sum(settings["loss_weights"][name] * value for name, value in terms.items())
    return [total, terms["mean"], terms["std"], terms["skewness"]]


def scored(*arguments, **options):
    """Return a `GroupLoss` that returns tensors."""
    loss = GroupLoss(*arguments, **options)
    return lambda normals: torch.from_numpy(loss(normals))


@hypothesis.settings(max_examples=32)
@hypothesis.given(SWITCHES, st.sampled_from([1, 2, 3, 10]))
def test_terms_are_those_of_the_formulas(switches, ipc):
    settings = {**PAPER, **switches, "loss_weights": {"mean": 0.7, "std": 1.3, "skewness": 0.4}}
    mean, std = gaussian()
    normals = torch.randn(4, ipc, 12, generator=torch.Generator().manual_seed(1)).double()
    before = normals.clone()
    actual = scored(mean, std, ipc, settings)(normals)
    groups = mean + std * normals
    expected = [naive(group, mean, std, settings) for group in groups]
    plain = [group_loss(group, mean, std, settings) for group in groups]
    plain = [[float(total), *(float(terms[name]) for name in TERMS)] for total, terms in plain]
    torch.testing.assert_close(torch.tensor(plain), torch.tensor(expected), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        actual, torch.tensor(expected, dtype=torch.float64).T, rtol=1e-9, atol=1e-12
    )
    assert (normals == before).all()
    single = scored(mean.float(), std.float(), ipc, settings)(normals.float())
    torch.testing.assert_close(single, actual.float(), rtol=2e-5, atol=1e-6)


@hypothesis.settings(max_examples=24)
@hypothesis.given(SWITCHES, st.sampled_from(TERMS))
def test_a_term_of_weight_zero_is_computed_only_on_request(switches, weighted):
    weights = {term: float(term == weighted) for term in TERMS}
    settings, (mean, std) = {**PAPER, **switches, "loss_weights": weights}, gaussian()
    normals = torch.randn(5, 4, 12, generator=torch.Generator().manual_seed(1)).double()
    all_terms = scored(mean, std, 4, settings, all_terms=True)(normals)
    loss = scored(mean, std, 4, settings)
    for _ in range(2):
        weighted_only = loss(normals)
        torch.testing.assert_close(weighted_only[0], all_terms[0])
        assert [bool(term.any()) for term in weighted_only[1:]] == [t == weighted for t in TERMS]
    assert (all_terms[1:] > 0).all()


def test_skewness_of_members_by_hand():
    mean, std = torch.tensor([9.0, -7, 4]).double(), torch.tensor([2.0, 5, 0.1]).double()
    # Dimensions: (0, 0, 0) has no spread; (0, 3, 3) and (3, 0, 3) have mean 2 and std √3.
    latents = torch.tensor([[0.0, 0, 3], [0, 3, 0], [0, 3, 3]], dtype=torch.float64)
    cubes = [(-8 + 1) / 3**1.5, (1 - 8) / 3**1.5, 2 / 3**1.5]
    expected = [3 / 2 * cube for cube in cubes]
    settings = {**CODE, "loss_weights": {"mean": 0, "std": 0, "skewness": 1}}
    norm, _ = group_loss(latents, mean, std, settings)
    assert float(norm) == pytest.approx(math.sqrt(sum(e**2 for e in expected)))
    squared, _ = group_loss(latents, mean, std, {**settings, "terms": "squared"})
    assert float(squared) == pytest.approx(sum(e**2 for e in expected) / 3)
    # Members are standardised by their group: the class has no influence.
    of_class = GroupLoss(mean, std, 3, settings)((latents - mean)[None] / std)
    of_standard = GroupLoss(mean * 0, std * 0 + 1, 3, settings)(latents[None])
    assert of_class[0, 0] == pytest.approx(float(norm)) == of_standard[0, 0]


def test_dimensions_without_spread_have_zero_loss():
    mean, std = gaussian(6)
    std[2] = 0
    normals = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    actual = scored(mean, std, 4, {**PAPER, "terms": "norm"})(normals)
    plain = [group_loss(g, mean, std, {**PAPER, "terms": "norm"})[0] for g in mean + std * normals]
    torch.testing.assert_close(torch.stack(plain), actual[0])
    rest = [0, 1, 3, 4, 5]
    without = scored(mean[rest], std[rest], 4, {**PAPER, "terms": "norm"})(normals[:, :, rest])
    torch.testing.assert_close(actual, without)
    flat = scored(torch.ones(6), torch.zeros(6), 4, CODE)(normals.float())
    assert (flat == 0).all()
