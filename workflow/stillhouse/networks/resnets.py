"""The networks of the field that no library has: ConvNet, ResNet-AP, and those of GLaD and RUO.

Where a paper's facts do not say how its network is built, the docstring says what is done here.
"""

import math

import torch
from torch import nn


def _norm(kind, channels):
    """Return batch normalisation, or instance normalisation with scale and shift."""
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels, channels)


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
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                _norm(norm, width),
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
            # Of this network alone a CPU makes 1.2 to 2 times as many images a second with it.
            x = x.contiguous(memory_format=torch.channels_last)
        return self.classifier(self.features(x).flatten(1))


class PooledBlock(nn.Module):
    """A residual block of two 3 × 3 convolutions that halves by average pooling, not by strides."""

    def __init__(self, channels, width, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = _norm(norm, width)
        self.pool = nn.AvgPool2d(stride)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = _norm(norm, width)
        self.downsample = nn.Identity()
        if channels != width:
            projection = nn.Conv2d(channels, width, 1, bias=False)
            self.downsample = nn.Sequential(projection, nn.AvgPool2d(stride), _norm(norm, width))

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
    have the same names. Its narrower variant for CIFAR (32 to 256 channels) is not built.

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
        for name, module in (("conv1", stem), ("bn1", _norm(norm, 64)), ("relu", nn.ReLU())):
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


class AlexNetSmall(nn.Module):
    """The AlexNet of DC, GLaD, FreD and RUO: five convolutions, three max-poolings, one layer.

    5 × 5 to 128 channels, pool, 5 × 5 to 192, pool, 3 × 3 to 256, to 192, to 192, pool, linear; no
    normalisation. That all strides are 1, convolutions keep the size and pooling takes 2 × 2 maxima
    is from GLaD at d221e9c, networks/alexnet.py, whose names the weights have; RUO's file was not
    seen.
    """

    def __init__(self, n_classes, resolution):
        super().__init__()
        layers, channels = [], 3
        for width, kernel, pooled in (
            (128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True)
        ):  # fmt: skip
            layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.ReLU(True)]
            layers += [nn.MaxPool2d(2)] if pooled else []
            channels = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels * (resolution // 8) ** 2, n_classes)

    def forward(self, x):
        """Return logits, (n, n_classes), for (n, 3, resolution, resolution)."""
        return self.fc(self.features(x).flatten(1))


class VGG11Small(nn.Module):
    """The VGG-11 of GLaD, FreD and RUO: eight convolutions and a single linear layer.

    VGG's 3 × 3 convolutions of 64, 128, 256, 256, 512, 512, 512, 512 channels, each normalised,
    with 2 × 2 max-pooling after the first, second, fourth, sixth and eighth. The facts of RUO say
    no more than instance norm; that the last maps are brought to 7 × 7 by adaptive max-pooling
    before the linear layer is GLaD's at d221e9c, networks/vgg.py, whose names the weights have.

    Parameters
    ----------
    norm : str
        ``instance`` (the papers') or ``batch``.
    n_classes : int
    """

    def __init__(self, norm, n_classes):
        super().__init__()
        layers, channels = [], 3
        for number, width in enumerate((64, 128, 256, 256, 512, 512, 512, 512), 1):
            layers += [nn.Conv2d(channels, width, 3, padding=1), _norm(norm, width), nn.ReLU(True)]
            layers += [nn.MaxPool2d(2)] if number in (1, 2, 4, 6, 8) else []
            channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(7))
        self.classifier = nn.Linear(channels * 49, n_classes)

    def forward(self, x):
        """Return logits, (n, n_classes), for (n, 3, side, side)."""
        return self.classifier(self.features(x).flatten(1))


class AttentionBlock(nn.Module):
    """Attention, then two linear layers with GELU, each added to its input; no normalisation."""

    def __init__(self, width, n_heads, hidden, dropout):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        """Return (n, tokens, width) for the same."""
        # (3, n, heads, tokens, width / heads)
        parts = self.qkv(x).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        x = x + self.out((scores.softmax(3) @ value).transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class ViT512x10(nn.Module):
    """The vision transformer of GLaD, FreD and RUO: patches of 16 px, width 512, depth 10.

    8 heads, hidden layers of 512, one class token whose output a linear layer reads, learnt
    positions; tokens and positions begin as standard normal numbers. The facts of RUO say patch,
    width, depth, heads, hidden width and dropout; that there is no layer normalisation and no bias
    of queries, keys and values, and that the embedding drops out too, is GLaD's at d221e9c,
    networks/vit.py, with FreD's arguments.

    Parameters
    ----------
    dropout : float
        0.01 in RUO, 0.1 in FreD.
    n_classes : int
    resolution : int
        Side of the input, a multiple of 16 [px].
    """

    def __init__(self, dropout, n_classes, resolution):
        super().__init__()
        self.patches = nn.Conv2d(3, 512, 16, stride=16)
        self.positions = nn.Parameter(torch.randn(1, (resolution // 16) ** 2 + 1, 512))
        self.class_token = nn.Parameter(torch.randn(1, 1, 512))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(AttentionBlock(512, 8, 512, dropout) for _ in range(10)))
        self.head = nn.Linear(512, n_classes)

    def forward(self, x):
        """Return logits, (n, n_classes), for (n, 3, resolution, resolution)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.blocks(self.dropout(tokens + self.positions))[:, 0])


def modified_resnet(name, n_classes):
    """Return a ResNet of torchvision for small images: 3 × 3 stem of stride 1, no max-pooling.

    RDED, SRe2L and D3HR; RDED synthesize/utils.py at 3f6453d.
    """
    # Importing torchvision takes seconds, which ConvNets need not wait for.
    from torchvision import models

    net = models.get_model(name, num_classes=n_classes)
    net.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    return net


def resnet18_instance(n_classes):
    """Return torchvision's ResNet-18 with instance norm: GLaD's and RUO's, IDC's above 128 px.

    He initialisation over the outputs, as in IDC; GLaD leaves torch's own. IDC's 3 × 3 stem for
    images up to 128 px is not built.
    """
    from torchvision.models import resnet18

    return resnet18(num_classes=n_classes, norm_layer=lambda width: _norm("instance", width))
