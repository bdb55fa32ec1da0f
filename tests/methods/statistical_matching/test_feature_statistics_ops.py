import pytest
import torch
from stillhouse.methods.statistical_matching.feature_statistics_ops import (
    frozen_batchnorm,
    mean_variance,
)
from stillhouse.training import loop
from torch import nn
from torch.nn.functional import interpolate, unfold


def maps_of(*shape, dtype=torch.float64, mean=0.0):
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=generator, dtype=torch.float64) + mean).to(dtype)


def naive(maps, tile):
    """Return means and variances by the definition: channels, and with a tile also tiles."""
    variance, mean = torch.var_mean(maps, (2, 3), correction=0)
    if not tile:
        return [mean, variance]
    sides = [-(-side // tile) * tile for side in maps.shape[2:]]
    if sides != list(maps.shape[2:]):
        maps = interpolate(maps, sides, mode="bilinear", align_corners=False)
    # (n, channels × places of a tile, tiles)
    columns = unfold(maps, tile, stride=tile)
    tile_variance, tile_mean = torch.var_mean(columns, 1, correction=0)
    return [mean, variance, tile_mean, tile_variance]


def flat(actual):
    channel, tiles = actual
    return [*channel, *(tiles or ())]


# Shape of the maps and tile: divisible, not in one or two axes, smaller than a tile, a point.
CASES = [
    ((2, 3, 4, 4), 0),
    ((3, 2, 5, 3), 0),
    ((2, 3, 4, 4), 2),
    ((2, 3, 8, 4), 4),
    ((2, 3, 4, 4), 4),
    ((2, 2, 6, 4), 4),
    ((2, 2, 4, 6), 4),
    ((2, 3, 5, 7), 4),
    ((2, 3, 3, 3), 4),
    ((1, 1, 4, 4), 1),
    ((2, 3, 1, 1), 0),
    ((2, 3, 1, 1), 4),
]


@pytest.mark.parametrize(("shape", "tile"), CASES)
def test_means_and_variances_are_those_of_torch(shape, tile):
    maps = maps_of(*shape)
    actual, wanted = flat(mean_variance(maps, tile)), naive(maps, tile)
    assert len(actual) == len(wanted)
    for mine, theirs in zip(actual, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
        assert mine.dtype == torch.float64


def test_tiles_lie_in_rows():
    maps = torch.arange(6.0).reshape(1, 1, 2, 3).repeat_interleave(4, 2).repeat_interleave(4, 3)
    (channel, _), (tiles, variance) = mean_variance(maps, 4)
    assert tiles.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert not variance.any() and channel.tolist() == [[2.5]]


@pytest.mark.parametrize(("shape", "tile"), CASES)
def test_gradients_are_those_of_finite_differences(shape, tile):
    maps = maps_of(*shape).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda maps: tuple(flat(mean_variance(maps, tile))), (maps,))


def gradient(values, wanted, maps):
    """Return the gradient of some of the values, each weighted by random numbers."""
    slopes = [maps_of(*value.shape, mean=i, dtype=value.dtype) for i, value in enumerate(values)]
    total = sum((values[i] * slopes[i]).sum() for i in wanted)
    return torch.autograd.grad(total, maps)[0]


@pytest.mark.parametrize("wanted", [[0], [1], [2], [3], [0, 3], [1, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize("shape", [(2, 3, 4, 8), (2, 3, 5, 6)])
def test_gradients_of_a_selection_are_those_of_torch(shape, wanted):
    maps = maps_of(*shape, mean=1).requires_grad_(True)
    mine = gradient(flat(mean_variance(maps, 4)), wanted, maps)
    theirs = gradient(naive(maps, 4), wanted, maps)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mean", [0, 10, -10])
@pytest.mark.parametrize("tile", [0, 4])
def test_a_mean_of_ten_deviations_loses_few_digits(mean, tile):
    maps = maps_of(4, 8, 32, 32, dtype=torch.float32, mean=mean).requires_grad_(True)
    exact = maps.detach().double().requires_grad_(True)
    actual, wanted = flat(mean_variance(maps, tile)), naive(exact, tile)
    # Of a square of 100, float32 has 10⁻⁵; the variance is 1.
    rtol = 1e-4 if mean else 1e-5
    for mine, theirs in zip(actual, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=rtol, atol=1e-6)
    mine, theirs = (gradient(v, range(len(v)), m) for v, m in ((actual, maps), (wanted, exact)))
    assert (mine - theirs).norm() < rtol * theirs.norm()


def test_constant_maps_have_no_negative_variance():
    maps = torch.full((2, 3, 8, 8), 12.345).requires_grad_(True)
    for value in flat(mean_variance(maps, 4))[1::2]:
        assert (value >= 0).all() and value.max() < 1e-4
        (slope,) = torch.autograd.grad(value.sum(), maps, retain_graph=True)
        assert slope.isfinite().all() and slope.abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(2, 3, 8, 4), (2, 3, 5, 6)])
def test_results_do_not_depend_on_the_memory_layout(shape):
    maps = maps_of(*shape, dtype=torch.float32).requires_grad_(True)
    turned = maps.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
    mine, theirs = flat(mean_variance(maps, 4)), flat(mean_variance(turned, 4))
    for value, value_of_turned in zip(mine, theirs, strict=True):
        torch.testing.assert_close(value, value_of_turned)
    torch.testing.assert_close(
        gradient(mine, range(4), maps), gradient(theirs, range(4), turned).contiguous()
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    maps = maps_of(4, 3, 32, 32, dtype=dtype, mean=3).requires_grad_(True)
    exact = maps.detach().double().requires_grad_(True)
    actual, wanted = flat(mean_variance(maps, 4)), naive(exact, 4)
    for mine, theirs in zip(actual, wanted, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)
    mine = gradient(actual, range(4), maps)
    assert mine.dtype == dtype
    # One rounding, of the sum: 2⁻⁸ of bfloat16's eight bits.
    torch.testing.assert_close(
        mine.double(), gradient(wanted, range(4), exact), rtol=2**-8, atol=1e-3
    )


def test_autocast_leaves_small_maps_float32():
    maps = maps_of(4, 3, 6, 6, dtype=torch.bfloat16, mean=3)
    wanted = naive(maps.double(), 4)
    with torch.autocast("cpu", torch.bfloat16):
        actual = flat(mean_variance(maps, 4))
    for mine, theirs in zip(actual, wanted, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frozen_batch_norms_are_those_of_torch(affine, dtype):
    norm = nn.BatchNorm2d(3, affine=affine)
    for i, tensor in enumerate(norm.state_dict().values()):
        if tensor.ndim:
            tensor.copy_(maps_of(3, mean=4, dtype=torch.float32) + i)
    maps = maps_of(4, 3, 5, 5, dtype=dtype).requires_grad_(True)
    loop.freeze(norm)
    wanted = norm(maps)
    norm.forward = frozen_batchnorm(norm)
    actual = norm(maps)
    assert actual.dtype == wanted.dtype
    torch.testing.assert_close(actual, wanted)
    slopes = [torch.autograd.grad(y.square().sum(), maps)[0] for y in (actual, wanted)]
    torch.testing.assert_close(*slopes)
