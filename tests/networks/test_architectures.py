import subprocess
import sys

import pytest
from stillhouse.errors import StillhouseError
from stillhouse.networks import architectures


def test_names_are_those_that_torchvision_registers():
    from torchvision import models

    assert architectures.names("torchvision") == set(models.list_models(module=models))


def test_names_are_those_that_timm_registers():
    import timm

    assert architectures.names("timm") == set(timm.list_models())


def test_weights_are_those_of_torchvision():
    from torchvision import models

    for name in models.list_models(module=models):
        wanted = {member.name for member in models.get_model_weights(name)}
        assert architectures.weights(f"torchvision/{name}") == wanted, name


def test_weights_have_the_tags_of_timm():
    import timm

    tagged = [name.split(".", 1) for name in timm.list_pretrained()]
    missing = [(n, tag) for n, tag in tagged if tag not in architectures.weights(f"timm/{n}")]
    assert len(tagged) > 1000
    # A few encoders for text and images, none of which is a classifier of ImageNet-1K.
    assert len(missing) < 50
    assert 1000 not in {timm.get_pretrained_cfg(f"{n}.{tag}").num_classes for n, tag in missing}


def test_classes_are_in_the_order_of_imagenet():
    classes = architectures.imagenet()
    assert len(classes) == len(set(classes)) == 1000
    # Sorted, so that these are at the places that everyone knows.
    assert list(classes) == sorted(classes)
    assert classes.index("n01440764") == 0
    assert classes.index("n03445777") == 574
    assert classes[-1] == "n15075141"


def test_reading_names_imports_no_library():
    code = (
        "import sys; from stillhouse.networks import architectures as a; a.imagenet(); "
        "[a.check_name('x', n) for n in ('torchvision/resnet18', 'timm/resnet10t')]; "
        "a.check_weights('x', 'torchvision/resnet18', 'IMAGENET1K_V1'); "
        "assert not {'torch', 'torchvision', 'timm'} & sys.modules.keys()"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=path, check=True)


def test_a_library_that_is_not_there_gets_one_line(monkeypatch):
    monkeypatch.setattr(architectures, "find_spec", lambda library: None)
    with pytest.raises(StillhouseError, match="nolib is not installed"):
        architectures.names("nolib")


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
def test_the_smallest_images_are_known_by_name(arch, most, least):
    architectures.check_resolution("students.s.arch", arch, least)
    with pytest.raises(StillhouseError, match=rf"^students\.s\.arch: is '{arch}'.*{most} px"):
        architectures.check_resolution("students.s.arch", arch, most)


@pytest.mark.parametrize("arch", ["resnet18_modified", "timm/resnet10t", "torchvision/resnet18"])
def test_other_sizes_show_when_the_network_is_built(arch):
    architectures.check_resolution("students.s.arch", arch, 4)
