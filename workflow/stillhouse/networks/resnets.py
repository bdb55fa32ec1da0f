"""ResNet variants of dataset distillation that no library has."""

from functools import partial

import torch
from torch import nn

from stillhouse.networks.convnet import norm_layer


class PooledBlock(nn.Module):
    """A residual block of two 3 × 3 convolutions that halves by average pooling, not by strides."""

    def __init__(self, channels, width, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = norm_layer(norm, width)
        self.pool = nn.AvgPool2d(stride)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm_layer(norm, width)
        self.downsample = nn.Identity()
        if channels != width:
            projection = nn.Conv2d(channels, width, 1, bias=False)
            self.downsample = nn.Sequential(
                projection, nn.AvgPool2d(stride), norm_layer(norm, width)
            )

    def forward(self, x):
        """Return (n, width, side / stride, side / stride) for (n, channels, side, side)."""
        inner = self.pool(torch.relu(self.bn1(self.conv1(x))))
        return torch.relu(self.bn2(self.conv2(inner)) + self.downsample(x))


class ResNetAP10(nn.Module):
    """ResNet-10 with average pooling for strides: ResNetAP-10 of IDC, MinimaxDiffusion and D3HR.

    Four stages of one `PooledBlock` with 64, 128, 256 and 512 channels, the last three of which
    halve; global average; linear. The stem is a 3 × 3 convolution up to 64 px; with 2 × 2 pooling
    up to 128 px; above, 7 × 7 with 4 × 4 pooling. No convolution has a bias; He initialisation over
    the outputs. As in MinimaxDiffusion at 62fc435, train_models/resnet_ap.py, whose checkpoints
    have the same names. Its narrower variant for CIFAR (32 to 256 channels) is not implemented.

    Parameters
    ----------
    norm : str
        ``instance`` (the papers') or ``batch``.
    n_classes : int
    resolution : int
        Side of the input [px].
    """

    def __init__(self, norm, n_classes, resolution):
        super().__init__()
        kernel, pool = (3, 1) if resolution <= 64 else (3, 2) if resolution <= 128 else (7, 4)
        self.layer0 = nn.Sequential()
        stem = nn.Conv2d(3, 64, kernel, padding=kernel // 2, bias=False)
        for name, module in (
            ("conv1", stem),
            ("bn1", norm_layer(norm, 64)),
            ("relu", nn.ReLU()),
        ):
            self.layer0.add_module(name, module)
        self.layer0.add_module("pool", nn.AvgPool2d(pool))
        channels = 64
        for stage, width in enumerate((64, 128, 256, 512), 1):
            block = PooledBlock(channels, width, 1 if stage == 1 else 2, norm)
            self.add_module(f"layer{stage}", nn.Sequential(block))
            channels = width
        self.fc = nn.Linear(channels, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        """Return logits, (n, n_classes), for (n, 3, resolution, resolution)."""
        for stage in range(5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


def modified_resnet(name, n_classes, stem_init="torch"):
    """Return a ResNet of torchvision for small images: 3 × 3 stem of stride 1, no max-pooling.

    RDED, SRe2L and D3HR; RDED synthesize/utils.py at 3f6453d.

    Parameters
    ----------
    name : str
        Of torchvision.
    n_classes : int
    stem_init : str
        Initial weights of the stem: ``torch``, the library's default, uniform in ±1/√27 (RDED,
        utils.py:193-198); ``he``, normal with variance 2 / (9·64), as the other convolutions (EDC).
    """
    # On demand: importing torchvision takes seconds.
    from torchvision import models

    net = models.get_model(name, num_classes=n_classes)
    net.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    if stem_init == "he":
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    return net


def resnet18_instance(n_classes):
    """Return torchvision's ResNet-18 with instance norm, as in GLaD, RUO and IDC above 128 px.

    He initialisation over the outputs, as in IDC; GLaD uses torch's default. IDC's 3 × 3 stem for
    images up to 128 px is not implemented.
    """
    from torchvision.models import resnet18

    return resnet18(num_classes=n_classes, norm_layer=partial(norm_layer, "instance"))
