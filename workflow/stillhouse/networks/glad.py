"""AlexNet, VGG-11 and ViT of GLaD, FreD and RUO, which no library has.

Docstrings state the source of each choice that the papers do not describe.
"""

import math

import torch
from torch import nn

from stillhouse.networks.convnet import norm_layer


class AlexNetSmall(nn.Module):
    """The AlexNet of DC, GLaD, FreD and RUO: five convolutions, three max-poolings, one layer.

    5 × 5 to 128 channels, pool, 5 × 5 to 192, pool, 3 × 3 to 256, to 192, to 192, pool, linear; no
    normalisation. Strides of 1, convolutions that preserve the size, 2 × 2 max-pooling and the
    parameter names are from GLaD at d221e9c, networks/alexnet.py. RUO's file was not available for
    comparison.
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
    with 2 × 2 max-pooling after the first, second, fourth, sixth and eighth. RUO states only the
    instance norm. The adaptive max-pooling of the last maps to 7 × 7 before the linear layer and
    the parameter names are from GLaD at d221e9c, networks/vgg.py.

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
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                norm_layer(norm, width),
                nn.ReLU(True),
            ]
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
        """Return (n, tokens, width) for (n, tokens, width)."""
        # (3, n, heads, tokens, width / heads)
        parts = self.qkv(x).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        x = x + self.out((scores.softmax(3) @ value).transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class ViT512x10(nn.Module):
    """The vision transformer of GLaD, FreD and RUO: patches of 16 px, width 512, depth 10.

    8 heads, hidden layers of 512, a class token followed by a linear layer, learned positions;
    token and positions are initialised with standard normal numbers. RUO states patch, width,
    depth, heads, hidden width and dropout. No layer normalisation, no bias of queries, keys and
    values, and dropout of the embedding are from GLaD at d221e9c, networks/vit.py, with FreD's
    arguments.

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
