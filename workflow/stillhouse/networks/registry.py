"""Networks by name, with initial weights that depend on a seed alone."""

import contextlib

import torch

from stillhouse.artifacts.rng import key
from stillhouse.networks import distillation_zoo, glad, libraries, resnets
from stillhouse.networks.convnet import ConvNet


def _convnet(depth):
    def make(settings, n_classes, resolution):
        return ConvNet(depth, settings["width"], settings["norm"], n_classes, resolution)

    return make


def _modified_resnet(name):
    def make(settings, n_classes, resolution):
        # Missing for loaded weights.
        return resnets.modified_resnet(name, n_classes, settings.get("stem_init", "torch"))

    return make


# Name → function(settings, n_classes, resolution) → module. Names with a library's prefix are in
# `libraries`.
ARCHITECTURES = {
    **{f"convnet{depth}": _convnet(depth) for depth in range(1, 7)},
    "resnet18_modified": _modified_resnet("resnet18"),
    "resnet101_modified": _modified_resnet("resnet101"),
    "resnet18_instance": lambda settings, n, px: resnets.resnet18_instance(n),
    "resnetap10": lambda settings, n, px: resnets.ResNetAP10(settings["norm"], n, px),
    "alexnet_small": lambda settings, n, px: glad.AlexNetSmall(n, px),
    "vgg11_small": lambda settings, n, px: glad.VGG11Small(settings["norm"], n),
    "vit_patch16_512x10": lambda settings, n, px: glad.ViT512x10(settings["dropout"], n, px),
    "wrn16_2": lambda settings, n, px: distillation_zoo.WideResNet(16, 2, n),
    "mobilenetv2_small": lambda settings, n, px: distillation_zoo.mobilenetv2_small(n),
    "shufflenetv2_small": lambda settings, n, px: distillation_zoo.shufflenetv2_small(n),
}


@contextlib.contextmanager
def global_generator(seed, stage, item=""):
    """Seed torch's global generators by (seed, stage, item) and restore their state afterwards.

    For code that takes no generator argument: initial weights and dropout.
    """
    state = torch.Generator().manual_seed(key(seed, stage, item=item) % 2**63).get_state()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.set_rng_state(state)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(key(seed, stage, item=item) % 2**63)
        yield


def build(settings, n_classes, resolution, seed, stage):
    """Return a network whose initial weights depend on (seed, stage) and the settings alone.

    Parameters
    ----------
    settings : dict
        ``arch`` (a key of `ARCHITECTURES`, or a library's name) and its options: ``width``,
        ``norm``, ``dropout``, ``stem_init``, ``pretrained``; ``normalisation`` (mean and standard
        deviation), if the network expects inputs normalised by others than ImageNet's.
    n_classes : int
    resolution : int
        Side of the input [px].
    seed : int
    stage : str
    """
    with global_generator(seed, stage, "weights"):
        make = ARCHITECTURES.get(settings["arch"], libraries.build)
        net = make(settings, n_classes, resolution)
    if "normalisation" in settings:
        libraries.expect(net, *settings["normalisation"])
    return net
