import pytest
import torch
from stillhouse.methods.statistical_matching.feature_statistics import (
    KINDS,
    LayerStatistic,
    StatisticsRecorder,
)
from stillhouse.networks import registry
from stillhouse.training import loop
from torch import nn

from tests.methods.statistical_matching.test_feature_statistics_ops import maps_of, naive

BOTH = ("batchnorm", "convolution")


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
    """Return ([(kind, layer, input)] in the order of the pass, logits), with separate hooks."""
    actual, handles = [], []
    names = {module: name for name, module in net.named_modules() if kind_of(module)}

    def keep(module, inputs):
        actual.append((kind_of(module), names[module], inputs[0]))

    for module in names:
        handles.append(module.register_forward_pre_hook(keep))
    logits = net(images)
    for handle in handles:
        handle.remove()
    return actual, logits


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
def test_statistics_are_recorded_in_the_order_of_the_forward_pass(arch, settings, resolution):
    net = network(arch, resolution, **settings)
    images = maps_of(2, 3, resolution, resolution, dtype=torch.float32).requires_grad_(True)
    recorded, wanted = inputs_of(net, images)
    assert recorded
    logits, actual = StatisticsRecorder(net, BOTH, 4)(images)
    torch.testing.assert_close(logits, wanted)
    parts = []
    for kind, layer, _ in recorded:
        parts.append((kind, layer, "channel"))
        parts += [(kind, layer, "tile")] if kind == "convolution" else []
    assert list(actual) == parts
    total = theirs = 0
    for kind, layer, maps in recorded:
        values = naive(maps, 4 if kind == "convolution" else 0)
        of = [
            v
            for what in ("channel", "tile")
            for v in actual.get(LayerStatistic(kind, layer, what), ())
        ]
        for mine, wanted in zip(of, values, strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-3, atol=1e-5)
            total, theirs = total + mine.square().mean(), theirs + wanted.square().mean()
    mine, theirs = (torch.autograd.grad(value, images)[0] for value in (total, theirs))
    assert (mine - theirs).norm() < 1e-3 * theirs.norm()


def test_only_the_requested_kinds_are_recorded():
    images = maps_of(2, 3, 16, 16, dtype=torch.float32)
    for kind in BOTH:
        _, actual = StatisticsRecorder(network("wrn16_2"), [kind], 0)(images)
        assert {part.kind for part in actual} == {kind}
        assert {part.unit for part in actual} == {"channel"}
    _, actual = StatisticsRecorder(network("wrn16_2"), [], 4)(images)
    assert actual == {}


def test_names_hold_kind_layer_and_unit():
    _, actual = StatisticsRecorder(network("convnet1", width=4, norm="batch"), BOTH, 4)(
        torch.zeros(1, 3, 16, 16)
    )
    assert [part.name for part in actual] == [
        "convolution.features.0.channel",
        "convolution.features.0.tile",
        "batchnorm.features.1.channel",
    ]


def test_a_pass_records_nothing_of_the_one_before():
    recorder = StatisticsRecorder(network("convnet2", width=4, norm="batch"), BOTH, 4)
    images, constant = maps_of(3, 3, 16, 16, dtype=torch.float32), torch.ones(1, 3, 16, 16)
    before = recorder(images)[1]
    _, between = recorder(constant)
    assert {len(mean) for mean, _ in between.values()} == {1}
    after = recorder(images)[1]
    assert before.keys() == after.keys() == between.keys()
    assert all(torch.equal(after[part][0], before[part][0]) for part in before)


class Twice(nn.Module):
    """A network that uses a layer twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        return self.layer(self.layer(images)).mean((2, 3))


def test_only_the_first_use_of_a_layer_is_recorded():
    net, images = Twice().eval(), maps_of(2, 3, 8, 8, dtype=torch.float32)
    logits, actual = StatisticsRecorder(net, BOTH, 0)(images)
    (part,) = actual
    torch.testing.assert_close(actual[part][0], images.mean((2, 3)))
    assert torch.equal(logits, net.layer(net.layer(images)).mean((2, 3)))


@pytest.mark.parametrize("track", [True, False])
def test_recording_does_not_change_the_outputs_of_batch_norms(track):
    norm = nn.BatchNorm2d(3, track_running_stats=track)
    maps = maps_of(4, 3, 5, 5, dtype=torch.float32)
    net = loop.freeze(nn.Sequential(norm))
    wanted = net(maps)
    StatisticsRecorder(net, [], 0)
    torch.testing.assert_close(net(maps), wanted)


def test_a_forward_pass_alone_records_nothing():
    recorder = StatisticsRecorder(network("convnet1", width=4, norm="batch"), BOTH, 0)
    images = maps_of(2, 3, 16, 16, dtype=torch.float32)
    logits, recorded = recorder(images)
    torch.testing.assert_close(recorder.forward_only(images), logits)
    assert recorder.recorded == {} and len(recorder(images)[1]) == len(recorded) > 0
