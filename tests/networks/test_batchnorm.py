import pytest
import torch
from stillhouse.errors import StillhouseError
from stillhouse.networks import architectures, batchnorm, registry
from stillhouse.networks.batchnorm import fold_batchnorm, set_batchnorm_updates
from torch import nn


def build(arch="convnet1", n_classes=3, resolution=8, seed=0, stage="student", **settings):
    settings = {"arch": arch, "width": 4, "norm": "batch", **settings}
    return registry.build(settings, n_classes, resolution, seed, stage)


def test_two_batchnorm_updates_are_two_forward_passes():
    torch.manual_seed(0)
    once, twice = build("convnet2"), build("convnet2")
    set_batchnorm_updates(once, 2)
    for _ in range(3):
        x = torch.randn(6, 3, 8, 8) * 3 + 1
        once.train()(x)
        twice.train()(x)
        twice.train()(x)
    actual, wanted = once.state_dict(), twice.state_dict()
    for name in actual:
        if "running" in name:
            assert torch.allclose(actual[name], wanted[name], rtol=1e-5), name
    assert not torch.allclose(actual["features.1.running_mean"], torch.zeros(4), atol=1e-3)


def test_one_batchnorm_update_is_the_default():
    net = build("convnet2")
    set_batchnorm_updates(net, 1)
    momenta = [m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert momenta == pytest.approx([0.1, 0.1])


def test_batchnorms_of_libraries_are_updated_too():
    net = build("timm/mobilenetv3_small_050")
    set_batchnorm_updates(net, 2)
    momenta = [m.momentum for m in net.modules() if hasattr(m, "running_mean")]
    assert len(momenta) == 34
    assert momenta == pytest.approx([0.19] * 34)


@pytest.mark.parametrize(
    ("settings", "folded"),
    [
        ({"arch": "convnet3", "width": 8, "norm": "batch"}, 3),
        ({"arch": "convnet3", "width": 8, "norm": "instance"}, 0),
        ({"arch": "vgg11_small", "norm": "batch"}, 8),
        ({"arch": "resnet18_modified"}, 3),
        # Its three in the stem have an activation of their own.
        ({"arch": "timm/densenetblur121d"}, 0),
    ],
)
def test_folded_batch_norms_give_the_same_outputs(settings, folded):
    net = registry.build(settings, 5, 32, 0, "teacher")
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 32, 32, generator=rng)
    with torch.no_grad():
        for _ in range(3):
            net(images)  # changes the running statistics
        net.eval()
        wanted, norms = net(images), count_norms(net)
        actual = fold_batchnorm(net)(images)
    torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-4)
    assert norms - count_norms(net) == folded


def count_norms(net):
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize("arch", [*architectures.SINGLE_VALUES][:6])
def test_the_sides_at_which_batchnorm_has_single_values_are_those_listed(arch):
    largest = architectures.SINGLE_VALUES[arch]
    network = {"arch": arch, "norm": "batch"}
    for side in (largest, largest + 1):
        net = registry.build(network, 3, side, 0, "student").train()
        assert batchnorm.has_single_values(net, side) == (side == largest)
        assert all(module.training for module in net.modules())
    architectures.check_batch_size("k", network, largest, 2)
    architectures.check_batch_size("k", network, largest + 1, 1)
    with pytest.raises(StillhouseError, match=f"k: 1 conflicts with '{arch}'"):
        architectures.check_batch_size("k", network, largest, 1)


@pytest.mark.parametrize(
    ("arch", "norm", "refused"),
    [
        ("torchvision/resnet18", "batch", True),
        ("timm/resnet10t", "batch", True),
        ("timm/vit_small_resnet26d_224", "batch", True),
        ("torchvision/vit_b_16", "batch", False),
        ("torchvision/vgg11", "batch", False),
        ("torchvision/vgg11_bn", "batch", True),
        ("convnet3", "batch", False),
        ("resnetap10", "instance", False),
    ],
)
def test_one_image_per_step_is_refused_by_name(arch, norm, refused):
    network = {"arch": arch, "norm": norm}
    if not refused:
        architectures.check_batch_size("k", network, 8, 1)
        return
    with pytest.raises(StillhouseError, match="must be at least 2"):
        architectures.check_batch_size("k", network, 8, 1)
