import random
from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.evaluation import students
from stillhouse.networks import architectures, libraries, registry, state_dicts
from stillhouse.networks.architectures import imagenet
from stillhouse.training import teachers
from torch import nn


def build(arch, n_classes=10, resolution=32, seed=0, **settings):
    return registry.build({"arch": arch, **settings}, n_classes, resolution, seed, "student")


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


# Published numbers of parameters with 1000 classes: torchvision's documentation, timm's tables.
COUNTS = {
    ("torchvision/resnet18", 224): 11_689_512,
    ("torchvision/mobilenet_v2", 224): 3_504_872,
    ("torchvision/efficientnet_b0", 224): 5_288_548,
    ("torchvision/shufflenet_v2_x0_5", 224): 1_366_792,
    ("torchvision/googlenet", 224): 6_624_904,
    ("torchvision/swin_v2_t", 256): 28_351_570,
    ("timm/vit_tiny_patch16_224", 224): 5_717_416,
    ("timm/deit_tiny_patch16_224", 224): 5_717_416,
    ("timm/resnet10t", 224): 5_435_000,
}


@pytest.mark.parametrize(("task", "count"), COUNTS.items(), ids=lambda x: str(x))
def test_parameters_are_the_published_number(task, count):
    arch, resolution = task
    # timm's tables give ResNet-10-T in millions with two decimals.
    assert n_parameters(build(arch, 1000, resolution)) == pytest.approx(
        count, abs=5000 if arch == "timm/resnet10t" else 0
    )


SMALL = [
    ("torchvision/squeezenet1_1", 32),
    ("torchvision/mobilenet_v2", 32),
    ("timm/test_vit", 48),
    ("timm/mobilenetv3_small_050", 32),
]


@pytest.mark.parametrize(("arch", "resolution"), SMALL)
def test_weights_depend_on_the_seed_alone(arch, resolution):
    first = build(arch, 3, resolution).state_dict()
    torch.manual_seed(123)
    np.random.seed(5)  # noqa: NPY002
    random.seed(7)
    again = build(arch, 3, resolution).state_dict()
    other = build(arch, 3, resolution, seed=1).state_dict()
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert any(not torch.equal(other[name], first[name]) for name in first)


def test_the_trial_forward_pass_has_no_effect():
    from torchvision import models

    net = build("torchvision/mobilenet_v2")
    assert all(module.training for module in net.modules())
    with registry.global_generator(0, "student", "weights"):
        wanted = models.mobilenet_v2(num_classes=10).state_dict()
    actual = net.state_dict()
    assert all(torch.equal(actual[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("arch", "resolution"),
    [("torchvision/vit_b_16", 48), ("timm/vit_tiny_patch16_224", 48), ("timm/resnet10t", 40)],
)
def test_networks_are_built_for_the_images(arch, resolution):
    net = build(arch, 3, resolution)
    assert net(torch.zeros(2, 3, resolution, resolution)).shape == (2, 3)


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
def test_a_step_of_training_returns_one_output(arch):
    net = build(f"torchvision/{arch}", 3, 96)
    assert net.training
    assert net(torch.zeros(2, 3, 96, 96)).shape == (2, 3)
    assert not net.transform_input
    assert build(f"torchvision/{arch}", 3, 96, pretrained="IMAGENET1K_V1").transform_input


@pytest.mark.parametrize(
    ("arch", "resolution", "reason"),
    [
        ("torchvision/alexnet", 32, "Output size is too small"),
        ("torchvision/maxvit_t", 64, "not divisible by partition size"),
        ("timm/convnext_atto", 8, "Kernel size can't be greater"),
    ],
)
def test_unsupported_images_are_an_error_of_one_line(arch, resolution, reason):
    with pytest.raises(StillhouseError, match=reason) as caught:
        build(arch, 10, resolution)
    assert f"{arch}: 10 classes at {resolution} px are not supported" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_network_with_other_outputs_is_no_classifier(monkeypatch):
    monkeypatch.setattr(libraries, "_timm", lambda *task: nn.Flatten())
    with pytest.raises(StillhouseError, match=r"output shape \(2, 192\) for two images"):
        build("timm/headless", 10, 8)


def test_checkpoints_of_torchvision_load(tmp_path):
    from torchvision import models

    theirs = models.mobilenet_v2(num_classes=4)
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    net = build("torchvision/mobilenet_v2", 4)
    state_dicts.load_foreign(net, tmp_path / "x.pth")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net.eval()(x), theirs.eval()(x))


class Tiny(nn.Module):
    """A network with two final layers, as a distilled transformer has, and one like them."""

    def __init__(self, n_classes):
        super().__init__()
        self.body = nn.Linear(12, 1000)
        self.head = nn.Linear(1000, n_classes)
        self.other = nn.Linear(1000, n_classes, bias=False)

    def forward(self, x):
        x = self.body(x[:, :, :2, :2].flatten(1))
        return self.head(x) + self.other(x)


WANTED = ["n03445777", "n01440764", "n02102040"]


class TestPretrained:
    settings = {"arch": "timm/tiny", "pretrained": "in1k"}  # noqa: RUF012

    @pytest.fixture
    def library(self, monkeypatch):
        """Replace the libraries by one with one network and weights; return the network."""
        net = Tiny(1000).requires_grad_(False)
        monkeypatch.setattr(libraries, "_timm", lambda name, n, resolution, pretrained: Tiny(n))
        monkeypatch.setattr(libraries, "_fetch_timm", lambda *task: dict(net.state_dict()))
        return net

    @pytest.mark.parametrize("n_classes", [3, 1000])
    def test_the_outputs_are_those_of_the_classes_in_order(self, library, n_classes):
        classes = WANTED if n_classes == 3 else list(reversed(imagenet()))
        net = Tiny(len(classes)).requires_grad_(False)
        state_dicts.load(net, libraries.pretrained(self.settings, classes, 8), "here")
        x = torch.randn(5, 3, 8, 8)
        rows = [sorted(imagenet()).index(class_id) for class_id in classes]
        assert torch.allclose(net(x), library(x)[:, rows])
        assert torch.equal(net.body.weight, library.body.weight)

    def test_the_global_random_state_is_restored(self, library):
        before = torch.get_rng_state()
        libraries.pretrained(self.settings, WANTED, 8)
        assert torch.equal(torch.get_rng_state(), before)

    def test_weights_of_other_classes_are_an_error(self, library, monkeypatch):
        monkeypatch.setattr(libraries, "_fetch_timm", lambda *task: Tiny(21841).state_dict())
        with pytest.raises(StillhouseError, match=r"'head\.weight' must have the 1000 outputs"):
            libraries.pretrained(self.settings, WANTED, 8)

    def test_a_failed_download_is_an_error_of_one_line(self, library, monkeypatch):
        def offline(*task):
            raise OSError("<urlopen error [Errno -2] Name or service not known>\nand more")

        monkeypatch.setattr(libraries, "_fetch_timm", offline)
        with pytest.raises(StillhouseError, match="Name or service not known") as caught:
            libraries.pretrained(self.settings, WANTED, 8)
        assert str(caught.value).startswith("in1k of timm/tiny: the weights cannot be loaded")
        assert "\n" not in str(caught.value)


def test_weights_of_torchvision_are_cut_to_the_classes(monkeypatch):
    from torchvision import models

    theirs = models.shufflenet_v2_x0_5().requires_grad_(False).eval()
    state = lambda weights, **options: dict(theirs.state_dict())  # noqa: E731
    monkeypatch.setattr(models.ShuffleNet_V2_X0_5_Weights, "get_state_dict", state)
    settings = {"arch": "torchvision/shufflenet_v2_x0_5", "pretrained": "IMAGENET1K_V1"}
    net = registry.build(settings, 3, 32, 0, "teacher").eval()
    state_dicts.load(net, libraries.pretrained(settings, WANTED, 32), "here")
    x = torch.randn(2, 3, 32, 32)
    rows = [sorted(imagenet()).index(class_id) for class_id in WANTED]
    assert torch.allclose(net(x), theirs(x)[:, rows], atol=1e-6)


def test_a_pretrained_teacher_is_loaded_tested_and_read_back(
    empty, tiny, planned, make_all, monkeypatch
):
    """The stage, with digits as ImageNet's classes."""
    import timm

    order = (*"9876543210", *(f"n{i}" for i in range(990)))
    for module in (architectures, libraries):
        monkeypatch.setattr(module, "imagenet", lambda: order)
    theirs = timm.create_model("test_resnet").eval().requires_grad_(False)
    monkeypatch.setattr(libraries, "_fetch_timm", lambda *task: dict(theirs.state_dict()))
    tiny["teachers"]["t"] = {
        "arch": "timm/test_resnet", "weights": {"pretrained": "r160_in1k"}, "min_accuracy": 0,
    }  # fmt: skip
    tiny["datasets"]["three"]["resolution"] = 16
    tiny["experiments"]["x"] |= {"methods": ["random"], "ipc": [1], "protocols": ["soft"]}
    plan = planned(tiny)
    make_all(plan)
    (artifact,) = plan.artifacts["teacher"].values()
    assert artifact.settings["pretrained"] == "r160_in1k"
    teacher = teachers.load_teacher(Path(artifact.file), torch.device("cpu"))
    net, classes, resolution = teacher.net, teacher.class_ids, teacher.resolution
    assert (classes, resolution) == (["0", "1", "2"], 16)
    pixels = torch.rand(4, 3, 16, 16)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    # Normalisation of these weights in timm.
    made_for = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    assert (made_for.mean, made_for.std) == ((0.5,) * 3, (0.5,) * 3)
    wanted = theirs((pixels - 0.5) / 0.5)[:, [9, 8, 7]]
    assert torch.allclose(net((pixels - mean) / std), wanted, atol=1e-5)


def test_names_with_dots_and_auxiliary_layers_are_torchvisions(monkeypatch):
    from torchvision import models

    old = {
        "features.denseblock1.denselayer2.norm.1.weight": torch.zeros(2),
        "features.denseblock1.denselayer2.conv.2.weight": torch.zeros(3),
        "aux1.fc.weight": torch.zeros(4),
        "AuxLogits.fc.weight": torch.zeros(4),
    }
    asked = {}

    def state(weights, **options):
        asked.update(options)
        return old

    monkeypatch.setattr(models.DenseNet121_Weights, "get_state_dict", state)
    actual = libraries._fetch_torchvision("densenet121", "IMAGENET1K_V1", 224)
    own = models.densenet121().state_dict()
    assert len(actual) == 2
    assert actual.keys() <= own.keys()
    assert asked == {"progress": False, "check_hash": True, "weights_only": True}


def test_inputs_are_converted_for_weights_of_other_statistics():
    """The tag has mean and standard deviation of 0.5; inputs have those of ImageNet."""
    ours = build("timm/vit_tiny_patch16_224", 3, 32, pretrained="augreg_in21k_ft_in1k").eval()
    plain = build("timm/vit_tiny_patch16_224", 3, 32).eval()
    plain.load_state_dict(ours.state_dict())
    pixels = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    actual, wanted = ours((pixels - mean) / std), plain((pixels - 0.5) / 0.5)
    assert torch.allclose(actual, wanted, atol=1e-5)
    assert not torch.allclose(plain((pixels - mean) / std), wanted, atol=1e-2)


def test_inputs_are_unchanged_for_weights_of_our_statistics():
    net = build("timm/resnet10t", 3, 32, pretrained="c3_in1k")
    assert not net._forward_pre_hooks


def test_a_resumed_student_equals_an_uninterrupted_one(
    empty, tiny, planned, make, make_all, interrupt
):
    """A training of a network with batch normalisation and dropout."""
    tiny["datasets"]["three"]["resolution"] = 32
    tiny["students"] = {"s": {"arch": "torchvision/mobilenet_v2"}}
    tiny["protocols"]["hard"] |= {"learning_rate": 0.001}
    tiny["experiments"]["x"] |= {
        "methods": ["random"], "ipc": [2], "protocols": ["hard"], "seeds": [0],
    }  # fmt: skip
    plan = planned(tiny)
    make_all(plan)
    (family,) = plan.families["students"].values()
    path = Path(family.artifact.member_file(0))
    uninterrupted = store.read_json(path)
    path.unlink()
    # Two steps per epoch: in the middle of the second epoch.
    calls = interrupt(students, "render", 4)
    with pytest.raises(KeyboardInterrupt):
        make(family.artifact, [0], checkpoint_seconds=0.0)
    make(family.artifact, [0])
    assert len(calls) == 4 + 2
    assert store.read_json(path) == uninterrupted
    assert len(uninterrupted["curve"]) == 2


def test_a_teacher_of_a_library_is_trained_and_loaded(empty, tiny, planned, make_all):
    tiny["teachers"]["t"] = {"arch": "timm/test_resnet", "epochs": 1, "min_accuracy": 0}
    tiny["datasets"]["three"]["resolution"] = 16
    tiny["experiments"]["x"] |= {"methods": ["random"], "ipc": [1], "protocols": ["soft"]}
    plan = planned(tiny)
    make_all(plan)
    (artifact,) = plan.artifacts["teacher"].values()
    assert artifact.slug == "digits-16px-timm-test_resnet"
    teacher = teachers.load_teacher(Path(artifact.file), torch.device("cpu"))
    net, classes, resolution = teacher.net, teacher.class_ids, teacher.resolution
    assert net(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    assert (classes, resolution) == (["0", "1", "2"], 16)
