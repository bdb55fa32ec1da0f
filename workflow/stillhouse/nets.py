"""Networks by name, with weights that depend on a seed alone."""

import contextlib
import re

import torch
from torch import nn

from stillhouse.errors import StillhouseError
from stillhouse.seeds import key


class ConvNet(nn.Module):
    """The ConvNet of the field: `depth` blocks that halve the image, then a linear layer.

    A block is a 3 × 3 convolution with bias, normalisation with scale and shift, ReLU, and 2 × 2
    average pooling. Gidaris & Komodakis 2018, as in DC and MTT (instance norm) and RDED (batch
    norm), whose checkpoints have the same names: ``features.0.weight`` … ``classifier.bias``.

    Parameters
    ----------
    depth : int
        Number of blocks.
    width : int
        Channels of every block.
    norm : str
        ``batch`` or ``instance`` (a GroupNorm with one channel a group).
    n_classes : int
    resolution : int
        Side of the input [px].
    """

    def __init__(self, depth, width, norm, n_classes, resolution):
        super().__init__()
        layers, channels, side = [], 3, resolution
        for _ in range(depth):
            normalisation = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(width, width)
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                normalisation,
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side * side, n_classes)

    def forward(self, x):
        """Return logits, (n, n_classes), for (n, 3, resolution, resolution)."""
        return self.classifier(self.features(x).flatten(1))


def _convnet(depth):
    def make(settings, n_classes, resolution):
        return ConvNet(depth, settings["width"], settings["norm"], n_classes, resolution)

    return make


def _resnet18_modified(settings, n_classes, resolution):
    """ResNet-18 for small images: 3 × 3 stem of stride 1, no max-pooling (RDED, SRe2L)."""
    # Importing torchvision takes seconds, which ConvNets need not wait for.
    from torchvision.models import resnet18

    net = resnet18(num_classes=n_classes)
    net.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    return net


# Name → function(settings, n_classes, resolution) → module. New architectures register here.
ARCHITECTURES = {
    **{f"convnet{depth}": _convnet(depth) for depth in range(1, 7)},
    "resnet18_modified": _resnet18_modified,
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
        ``arch`` (a key of `ARCHITECTURES`); for ConvNets ``width`` and ``norm``.
    n_classes : int
    resolution : int
        Side of the input [px].
    seed : int
    stage : str
    """
    with global_generator(seed, stage, "weights"):
        return ARCHITECTURES[settings["arch"]](settings, n_classes, resolution)


def set_batchnorm_updates(net, updates):
    """Make one training forward pass move the running statistics as far as `updates` would.

    Two updates with the same batch, as in RDED's training loop (an extra forward pass without
    gradients before the real one), move them by 1 - (1 - m)² instead of m.
    """
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1 - (1 - module.momentum) ** updates


@torch.no_grad()
def penultimate(net, inputs):
    """Return what the last linear layer of a network is given, (n, d) float32."""
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    seen = []
    handle = last.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        net(inputs)
    finally:
        handle.remove()
    return seen[0].float()


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
    own = net.state_dict()
    tensors = {re.sub(r"^module\.", "", name): tensor for name, tensor in tensors.items()}
    for name, tensor in own.items():
        if name not in tensors:
            if name.endswith("num_batches_tracked"):
                continue
            raise StillhouseError(f"{path}: lacks {name!r}; does the architecture fit?")
        if tensors[name].shape != tensor.shape:
            raise StillhouseError(
                f"{path}: {name!r} has shape {tuple(tensors[name].shape)}, the network wants "
                f"{tuple(tensor.shape)}; do architecture, width, resolution and classes fit?"
            )
    strange = sorted(set(tensors) - set(own))
    if strange:
        raise StillhouseError(f"{path}: has {strange[0]!r}, the network has not; wrong arch?")
    net.load_state_dict(tensors, strict=False)


def _foreign_tensors(path):
    from stillhouse.artifacts import load_tensors

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
