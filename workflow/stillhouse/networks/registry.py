"""Networks by name, with first weights that depend on a seed alone; weights made elsewhere."""

import contextlib
import re
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stillhouse.errors import StillhouseError
from stillhouse.networks import distillation_zoo, libraries, resnets
from stillhouse.rng import key


def _convnet(depth):
    def make(settings, n_classes, resolution):
        return resnets.ConvNet(depth, settings["width"], settings["norm"], n_classes, resolution)

    return make


# Name → function(settings, n_classes, resolution) → module. New architectures register here; names
# with a library's prefix are the library's.
ARCHITECTURES = {
    **{f"convnet{depth}": _convnet(depth) for depth in range(1, 7)},
    "resnet18_modified": lambda settings, n, px: resnets.modified_resnet("resnet18", n),
    "resnet101_modified": lambda settings, n, px: resnets.modified_resnet("resnet101", n),
    "resnet18_instance": lambda settings, n, px: resnets.resnet18_instance(n),
    "resnetap10": lambda settings, n, px: resnets.ResNetAP10(settings["norm"], n, px),
    "alexnet_small": lambda settings, n, px: resnets.AlexNetSmall(n, px),
    "vgg11_small": lambda settings, n, px: resnets.VGG11Small(settings["norm"], n),
    "vit_patch16_512x10": lambda settings, n, px: resnets.ViT512x10(settings["dropout"], n, px),
    "wrn16_2": lambda settings, n, px: distillation_zoo.WideResNet(16, 2, n),
    "mobilenetv2_small": lambda settings, n, px: distillation_zoo.mobilenetv2_small(n),
    "shufflenetv2_small": lambda settings, n, px: distillation_zoo.shufflenetv2_small(n),
}


@contextlib.contextmanager
def global_generator(seed, stage, item=""):
    """Give torch's global generators the state of (seed, stage, item), then put theirs back.

    For code that takes no generator of its own: initial weights and dropout.
    """
    state = torch.Generator().manual_seed(key(seed, stage, item=item) % 2**63).get_state()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.set_rng_state(state)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(key(seed, stage, item=item) % 2**63)
        yield


def build(settings, n_classes, resolution, seed, stage):
    """Return a network with fresh weights that depend on (seed, stage) and the settings alone.

    Parameters
    ----------
    settings : dict
        ``arch`` (a key of `ARCHITECTURES`, or a library's name) and what belongs to it: ``width``,
        ``norm``, ``dropout``, ``pretrained``.
    n_classes : int
    resolution : int
        Side of the input [px].
    seed : int
    stage : str
    """
    with global_generator(seed, stage, "weights"):
        make = ARCHITECTURES.get(settings["arch"], libraries.build)
        return make(settings, n_classes, resolution)


def set_batchnorm_updates(net, updates):
    """Make one training forward pass move the running statistics as far as `updates` would.

    Two updates with the same batch, as in RDED's training loop (an extra forward pass without
    gradients before the real one), move them by 1 - (1 - m)² instead of m.
    """
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1 - (1 - module.momentum) ** updates


def classifier(net):
    """Return the layer that makes a network's logits: a linear one, or else a convolution.

    timm's networks know where it is; of two heads (distilled transformers) it is the first, that of
    the class token. In other networks it is the last one.
    """
    head = net.get_classifier() if hasattr(net, "get_classifier") else net
    layers = list((head[0] if isinstance(head, tuple) else head).modules())
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    found = linear or [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    if not found:
        raise StillhouseError(
            f"{type(net).__name__}: has no linear or convolutional classifier, whose input its "
            "features would be; another arch is needed"
        )
    return found[-1]


@torch.no_grad()
def penultimate(net, inputs):
    """Return what a network's `classifier` is given, (n, d) float32, averaged over its places."""
    last, seen = classifier(net), []
    handle = last.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        net(inputs)
    finally:
        handle.remove()
    found = seen[0].float()
    if isinstance(last, nn.Conv2d):
        found = found.movedim(1, -1)
    return found.reshape(len(found), -1, found.shape[-1]).mean(1)


def fold_batchnorm(net):
    """Make batch norms that follow a convolution part of it, in place; return the network.

    For evaluation alone, and where both are neighbours in an `nn.Sequential`. Outputs differ by
    rounding; on a CPU a ConvNet takes two thirds of the time.
    """
    for part in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i, (first, second) in enumerate(pairwise(list(part))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                part[i], part[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return net


def load_foreign(net, path):
    """Load weights made elsewhere: safetensors, or a ``.pth`` read with ``weights_only=True``.

    A state dict may be nested under ``state_dict`` or ``model``, and its names may begin with
    ``module.``.

    Raises
    ------
    StillhouseError
        If the file cannot be read or does not fit the network; names the first difference.
    """
    tensors = _foreign_tensors(path)
    load(net, {re.sub(r"^module\.", "", name): tensor for name, tensor in tensors.items()}, path)


def load(net, tensors, where):
    """Give a network all its tensors by their names; say `where` they are from if they do not fit.

    Counters of batches, which old files lack, may be missing.
    """
    own = net.state_dict()
    for name, tensor in own.items():
        if name not in tensors:
            if name.endswith("num_batches_tracked"):
                continue
            raise StillhouseError(f"{where}: lacks {name!r}; does the architecture fit?")
        if tensors[name].shape != tensor.shape:
            raise StillhouseError(
                f"{where}: {name!r} has shape {tuple(tensors[name].shape)}, the network wants "
                f"{tuple(tensor.shape)}; do architecture, width, resolution and classes fit?"
            )
    strange = sorted(set(tensors) - set(own))
    if strange:
        raise StillhouseError(f"{where}: has {strange[0]!r}, the network has not; wrong arch?")
    net.load_state_dict(tensors, strict=False)


def _foreign_tensors(path):
    from stillhouse.artifacts.store import load_tensors

    if str(path).endswith(".safetensors"):
        return load_tensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise StillhouseError(f"{path}: cannot be read with weights_only ({reason})") from None
    for name in ("state_dict", "model"):
        state = state.get(name, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise StillhouseError(f"{path}: holds no state dict of tensors")
    return state
