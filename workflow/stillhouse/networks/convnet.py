"""ConvNet, the small network of dataset distillation."""

import torch
from torch import nn


def norm_layer(kind, channels):
    """Return ``batch`` or ``instance`` normalisation with scale and shift.

    Instance normalisation is a GroupNorm with one channel per group.
    """
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels, channels)


class ConvNet(nn.Module):
    """The ConvNet of dataset distillation: `depth` blocks that halve the image, and a linear layer.

    A block is a 3 × 3 convolution with bias, normalisation with scale and shift, ReLU, and 2 × 2
    average pooling. Gidaris & Komodakis 2018, as in DC and MTT (instance norm), whose checkpoints
    have the same names, ``features.0.weight`` … ``classifier.bias``, and RDED (batch norm), whose
    checkpoints have those of `rded_names`.

    Parameters
    ----------
    depth : int
        Number of blocks.
    width : int
        Channels of every block.
    norm : str
        ``batch`` or ``instance``.
    n_classes : int
    resolution : int
        Side of the input [px].
    """

    def __init__(self, depth, width, norm, n_classes, resolution):
        super().__init__()
        layers, channels, side = [], 3, resolution
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                norm_layer(norm, width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
            channels, side = width, side // 2
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * side * side, n_classes)
        self.norm = norm

    def forward(self, x):
        """Return logits, (n, n_classes), for (n, 3, resolution, resolution)."""
        if self.norm == "batch" and x.device.type == "cpu":
            # On a CPU, 1.2 to 2 times the images per second; other networks gain nothing.
            x = x.contiguous(memory_format=torch.channels_last)
        return self.classifier(self.features(x).flatten(1))


def rded_names(net):
    """Return {name: name in RDED's checkpoints} of the tensors of a `ConvNet`.

    The convolution and the norm of block i are ``layers.conv.i`` and ``layers.norm.i`` there
    (LINs-lab/RDED at 3f6453d, synthesize/models.py:141-145); the linear layer has the same name.
    """
    kinds, names = {0: "conv", 1: "norm"}, {}
    for name in net.state_dict():
        part, *rest = name.split(".")
        if part == "features":
            block, place = divmod(int(rest[0]), 4)
            name_there = f"layers.{kinds[place]}.{block}.{rest[1]}"
        else:
            name_there = name
        names[name] = name_there
    return names
