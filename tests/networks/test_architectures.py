import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from stillhouse.errors import StillhouseError
from stillhouse.networks import architectures, registry
from torch import nn

SCRIPT = Path(__file__).parents[2] / "docs/architecture_names.py"


def test_names_and_weights_are_those_of_the_libraries():
    listed = architectures.NAMES.read_text().splitlines()
    expected = runpy.run_path(str(SCRIPT))["text"]().splitlines()
    assert listed[1:] == expected[1:], "run docs/architecture_names.py"


def test_names_and_weights_are_found_by_library():
    assert "resnet18" in architectures.names("torchvision")
    assert "resnet10t" in architectures.names("timm")
    assert "resnet10t" not in architectures.names("torchvision")
    assert architectures.weights("torchvision/resnet50") == {"IMAGENET1K_V1", "IMAGENET1K_V2"}
    assert "c3_in1k" in architectures.weights("timm/resnet10t")
    assert architectures.weights("convnet3") == frozenset()


def test_classes_are_in_the_order_of_imagenet():
    classes = architectures.imagenet()
    assert len(classes) == len(set(classes)) == 1000
    # Sorted; well-known positions.
    assert list(classes) == sorted(classes)
    assert classes.index("n01440764") == 0
    assert classes.index("n03445777") == 574
    assert classes[-1] == "n15075141"


def test_names_are_checked_without_importing_a_library():
    code = (
        "import sys; from stillhouse.networks import architectures as a; a.imagenet(); "
        "[a.check_name('x', n) for n in ('torchvision/resnet18', 'timm/resnet10t')]; "
        "a.check_weights('x', 'torchvision/resnet18', 'IMAGENET1K_V1'); "
        "assert not {'torch', 'torchvision', 'timm'} & sys.modules.keys()"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=path, check=True)


@pytest.mark.parametrize(
    ("arch", "most", "least"),
    [
        ("convnet3", 7, 8),
        ("alexnet_small", 7, 8),
        ("vgg11_small", 31, 32),
        ("resnetap10", 15, 16),
        ("resnet18_instance", 32, 33),
        ("vit_patch16_512x10", 40, 32),
        ("torchvision/vit_b_16", 40, 48),
        ("torchvision/vit_l_32", 48, 64),
        ("torchvision/vit_h_14", 32, 28),
    ],
)
def test_unsupported_resolutions_are_errors_by_name(arch, most, least):
    architectures.check_resolution("students.s.arch", arch, least)
    with pytest.raises(StillhouseError, match=rf"^students\.s\.arch: '{arch}'.*{most} px"):
        architectures.check_resolution("students.s.arch", arch, most)


@pytest.mark.parametrize("arch", ["resnet18_modified", "timm/resnet10t", "torchvision/resnet18"])
def test_other_resolutions_are_checked_by_the_network(arch):
    architectures.check_resolution("students.s.arch", arch, 4)


@pytest.mark.parametrize("arch", sorted(registry.ARCHITECTURES))
def test_networks_with_running_statistics_are_known_by_name(arch):
    for norm in ("batch", "instance"):
        settings = {"norm": norm} if arch in ("resnetap10", "vgg11_small", "convnet3") else {}
        network = {"arch": arch, "width": 4, "dropout": 0.1, "norm": "batch", **settings}
        net = registry.build(network, 3, 64, 0, "student")
        keeps = any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        assert architectures.has_batchnorm({"arch": arch, **settings}) is keeps


@pytest.mark.slow
def test_every_tenth_network_of_the_libraries_has_the_listed_norm():
    build = runpy.run_path(str(SCRIPT))["has_batchnorm"]
    archs = [*sorted(architectures.listed())[::10], "timm/cait_xxs24_224"]
    listed = {arch: architectures.has_batchnorm({"arch": arch}) for arch in archs}
    assert {arch: build(arch) for arch in archs} == listed
