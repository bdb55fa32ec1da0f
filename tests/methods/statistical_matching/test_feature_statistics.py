import pytest
import torch
from stillhouse.methods.statistical_matching.feature_statistics import KINDS, Part, Watch, moments
from stillhouse.networks import registry
from stillhouse.training import loop
from torch import nn
from torch.nn.functional import interpolate, unfold

BOTH = ("batchnorm", "convolution")


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


def flat(found):
    channel, tiles = found
    return [*channel, *(tiles or ())]


# Shape of the maps and tile: divisible, not so in one or two ways, smaller than a tile, a point.
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
def test_moments_are_those_of_torch(shape, tile):
    maps = maps_of(*shape)
    found, wanted = flat(moments(maps, tile)), naive(maps, tile)
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
        assert mine.dtype == torch.float64


def test_tiles_lie_in_rows():
    maps = torch.arange(6.0).reshape(1, 1, 2, 3).repeat_interleave(4, 2).repeat_interleave(4, 3)
    (channel, _), (tiles, variance) = moments(maps, 4)
    assert tiles.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert not variance.any() and channel.tolist() == [[2.5]]


@pytest.mark.parametrize(("shape", "tile"), CASES)
def test_gradients_are_those_of_numbers_close_by(shape, tile):
    maps = maps_of(*shape).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda maps: tuple(flat(moments(maps, tile))), (maps,))


def gradient(values, wanted, maps):
    """Return the gradient of some of the values, each weighted by random numbers."""
    slopes = [maps_of(*value.shape, mean=i, dtype=value.dtype) for i, value in enumerate(values)]
    total = sum((values[i] * slopes[i]).sum() for i in wanted)
    return torch.autograd.grad(total, maps)[0]


@pytest.mark.parametrize("wanted", [[0], [1], [2], [3], [0, 3], [1, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize("shape", [(2, 3, 4, 8), (2, 3, 5, 6)])
def test_gradients_of_some_moments_are_those_of_torch(shape, wanted):
    maps = maps_of(*shape, mean=1).requires_grad_(True)
    mine = gradient(flat(moments(maps, 4)), wanted, maps)
    theirs = gradient(naive(maps, 4), wanted, maps)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mean", [0, 10, -10])
@pytest.mark.parametrize("tile", [0, 4])
def test_a_mean_of_ten_deviations_costs_few_digits(mean, tile):
    maps = maps_of(4, 8, 32, 32, dtype=torch.float32, mean=mean).requires_grad_(True)
    exact = maps.detach().double().requires_grad_(True)
    found, wanted = flat(moments(maps, tile)), naive(exact, tile)
    # Of a square of 100, float32 has 10⁻⁵; the variance is 1.
    rtol = 1e-4 if mean else 1e-5
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=rtol, atol=1e-6)
    mine, theirs = (gradient(v, range(len(v)), m) for v, m in ((found, maps), (wanted, exact)))
    assert (mine - theirs).norm() < rtol * theirs.norm()


def test_what_does_not_vary_has_no_negative_variance():
    maps = torch.full((2, 3, 8, 8), 12.345).requires_grad_(True)
    for value in flat(moments(maps, 4))[1::2]:
        assert (value >= 0).all() and value.max() < 1e-4
        (slope,) = torch.autograd.grad(value.sum(), maps, retain_graph=True)
        assert slope.isfinite().all() and slope.abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(2, 3, 8, 4), (2, 3, 5, 6)])
def test_the_layout_of_maps_shows_nowhere(shape):
    maps = maps_of(*shape, dtype=torch.float32).requires_grad_(True)
    turned = maps.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
    mine, theirs = flat(moments(maps, 4)), flat(moments(turned, 4))
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(
        gradient(mine, range(4), maps), gradient(theirs, range(4), turned).contiguous()
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype):
    maps = maps_of(4, 3, 32, 32, dtype=dtype, mean=3).requires_grad_(True)
    exact = maps.detach().double().requires_grad_(True)
    found, wanted = flat(moments(maps, 4)), naive(exact, 4)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)
    mine = gradient(found, range(4), maps)
    assert mine.dtype == dtype
    # One rounding, of the sum: 2⁻⁸ of bfloat16's eight bits.
    torch.testing.assert_close(
        mine.double(), gradient(wanted, range(4), exact), rtol=2**-8, atol=1e-3
    )


def test_autocast_leaves_small_maps_float32():
    maps = maps_of(4, 3, 6, 6, dtype=torch.bfloat16, mean=3)
    wanted = naive(maps.double(), 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = flat(moments(maps, 4))
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_watched_batch_norms_do_what_they_did(affine, track, dtype):
    norm = nn.BatchNorm2d(3, affine=affine, track_running_stats=track)
    for i, tensor in enumerate(norm.state_dict().values()):
        if tensor.ndim:
            tensor.copy_(maps_of(3, mean=4, dtype=torch.float32) + i)
    maps = maps_of(4, 3, 5, 5, dtype=dtype).requires_grad_(True)
    net = loop.freeze(nn.Sequential(norm))
    wanted = net(maps)
    Watch(net, [], 0)
    found = net(maps)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(y.square().sum(), maps)[0] for y in (found, wanted)]
    torch.testing.assert_close(*slopes)


def network(arch, resolution=16, **settings):
    """Return a frozen network whose batch norms do not have zero and one for statistics."""
    net = registry.build({"arch": arch, **settings}, 5, resolution, 0, "teacher")
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return loop.freeze(net)


def kind_of(module):
    return next((kind for of, kind in KINDS.items() if isinstance(module, of)), None)


def inputs_of(net, images):
    """Return ([(kind, layer, input)] in the order of the pass, logits), with hooks of our own."""
    found, handles = [], []
    names = {module: name for name, module in net.named_modules() if kind_of(module)}

    def keep(module, given):
        found.append((kind_of(module), names[module], given[0]))

    for module in names:
        handles.append(module.register_forward_pre_hook(keep))
    logits = net(images)
    for handle in handles:
        handle.remove()
    return found, logits


ARCHITECTURES = [
    ("convnet3", {"width": 8, "norm": "batch"}, 16),
    ("convnet2", {"width": 8, "norm": "instance"}, 10),
    ("resnetap10", {"norm": "batch"}, 32),
    ("vgg11_small", {"norm": "batch"}, 32),
    ("alexnet_small", {}, 32),
    ("wrn16_2", {}, 16),
    ("mobilenetv2_small", {}, 32),
    ("shufflenetv2_small", {}, 32),
    ("torchvision/alexnet", {}, 64),
    # Batch norms with a nonlinearity in them.
    ("timm/mobilenetv3_small_050", {}, 64),
]


@pytest.mark.parametrize(
    ("arch", "settings", "resolution"), ARCHITECTURES, ids=[row[0] for row in ARCHITECTURES]
)
def test_layers_of_a_network_are_seen_in_the_order_of_the_pass(arch, settings, resolution):
    net = network(arch, resolution, **settings)
    images = maps_of(2, 3, resolution, resolution, dtype=torch.float32).requires_grad_(True)
    seen, wanted = inputs_of(net, images)
    assert seen
    logits, found = Watch(net, BOTH, 4)(images)
    torch.testing.assert_close(logits, wanted)
    parts = []
    for kind, layer, _ in seen:
        parts.append((kind, layer, "channel"))
        parts += [(kind, layer, "tile")] if kind == "convolution" else []
    assert list(found) == parts
    total = theirs = 0
    for kind, layer, maps in seen:
        values = naive(maps, 4 if kind == "convolution" else 0)
        of = [v for what in ("channel", "tile") for v in found.get(Part(kind, layer, what), ())]
        for mine, wanted in zip(of, values, strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-5)
            total, theirs = total + mine.square().mean(), theirs + wanted.square().mean()
    mine, theirs = (torch.autograd.grad(value, images)[0] for value in (total, theirs))
    assert (mine - theirs).norm() < 1e-3 * theirs.norm()


def test_kinds_that_are_not_asked_for_are_not_seen():
    images = maps_of(2, 3, 16, 16, dtype=torch.float32)
    for kind in BOTH:
        _, found = Watch(network("wrn16_2"), [kind], 0)(images)
        assert {part.kind for part in found} == {kind}
        assert {part.what for part in found} == {"channel"}
    _, found = Watch(network("wrn16_2"), [], 4)(images)
    assert found == {}


def test_a_part_has_a_name_that_says_where_it_is():
    _, found = Watch(network("convnet1", width=4, norm="batch"), BOTH, 4)(torch.zeros(1, 3, 16, 16))
    assert [part.name for part in found] == [
        "convolution.features.0.channel",
        "convolution.features.0.tile",
        "batchnorm.features.1.channel",
    ]


def test_a_pass_forgets_the_one_before():
    watch = Watch(network("convnet2", width=4, norm="batch"), BOTH, 4)
    some, others = maps_of(3, 3, 16, 16, dtype=torch.float32), torch.ones(1, 3, 16, 16)
    before = watch(some)[1]
    _, between = watch(others)
    assert {len(mean) for mean, _ in between.values()} == {1}
    after = watch(some)[1]
    assert before.keys() == after.keys() == between.keys()
    assert all(torch.equal(after[part][0], before[part][0]) for part in before)


class Twice(nn.Module):
    """A network that uses a layer twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return self.layer(self.layer(images)).mean((2, 3))


def test_a_layer_that_is_used_twice_is_seen_once():
    net, images = Twice().eval(), maps_of(2, 3, 8, 8, dtype=torch.float32)
    logits, found = Watch(net, BOTH, 0)(images)
    (part,) = found
    torch.testing.assert_close(found[part][0], images.mean((2, 3)))
    assert torch.equal(logits, net.layer(net.layer(images)).mean((2, 3)))
