"""Networks for small images that G-VBSM and EDC use besides ConvNets and ResNet-18.

WRN-16-2, MobileNetV2 of half width, ShuffleNetV2 x0.5, from CRD's zoo (RepDistiller). EDC at
baf6a04 refers to them by the names of G-VBSM at eb1d690, relabel/models. EDC's files and G-VBSM's
wrn.py were not available for comparison.
"""

from torch import nn


class PreactivationBlock(nn.Module):
    """A residual block of two 3 × 3 convolutions, each after batch norm and ReLU.

    The shortcut is the input of the block or, where the width changes, a 1 × 1 convolution of the
    first ReLU's output.
    """

    def __init__(self, channels, width, stride):
        super().__init__()
        self.activation = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.shortcut = None
        if channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x):
        """Return (n, width, side / stride, side / stride) for (n, channels, side, side)."""
        active = self.activation(x)
        return self.residual(active) + (self.shortcut(active) if self.shortcut else x)


class WideResNet(nn.Module):
    """The wide residual network WRN-`depth`-`widening` of Zagoruyko & Komodakis 2016.

    A 3 × 3 stem of 16 channels; three groups of `PreactivationBlock` with 16, 32 and 64 times
    `widening` channels, the last two of which halve; batch norm and ReLU; global average; linear.
    No convolution has a bias, no dropout, the linear layer's bias is initialised with zero; He
    initialisation over the outputs. As in RepDistiller at eedab9d, models/wrn.py, except for the
    parameter names.

    Parameters
    ----------
    depth : int
        4 and a multiple of 6.
    widening : int
    n_classes : int
    """

    def __init__(self, depth, widening, n_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        channels, blocks = 16, []
        for width, stride in ((16 * widening, 1), (32 * widening, 2), (64 * widening, 2)):
            for number in range((depth - 4) // 6):
                blocks.append(PreactivationBlock(channels, width, 1 if number else stride))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.activation = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.fc = nn.Linear(channels, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        """Return logits, (n, n_classes), for (n, 3, side, side)."""
        return self.fc(self.activation(self.blocks(self.stem(x))).mean((2, 3)))


def mobilenetv2_small(n_classes):
    """Return torchvision's MobileNetV2 changed to the zoo's ``mobile_half`` for 32 px.

    Half the width, not rounded to multiples of 8; a stem of stride 2 and a second stage of stride
    1, so that the last maps of 32 px have 2 × 2 pixels; ReLU for ReLU6; no dropout; and the first
    block too has a 1 × 1 convolution before the depthwise one. As in G-VBSM at eb1d690,
    Branch_Tiny_ImageNet/relabel/models/mobilenetv2.py, except for the parameter names, which are
    torchvision's. Initialisation is the same in both.
    """
    # On demand: importing torchvision takes seconds.
    from torchvision.models import MobileNetV2
    from torchvision.ops import Conv2dNormActivation

    # Expansion, channels at full width, blocks, stride of the first.
    stages = [
        [1, 16, 1, 1],
        [6, 24, 2, 1],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    net = MobileNetV2(n_classes, 0.5, stages, round_nearest=1, dropout=0.0)
    pointwise = Conv2dNormActivation(16, 16, kernel_size=1)
    nn.init.kaiming_normal_(pointwise[0].weight, mode="fan_out", nonlinearity="relu")
    net.features[1].conv.insert(0, pointwise)
    for module in net.modules():
        if isinstance(module, Conv2dNormActivation):
            module[2] = nn.ReLU(inplace=True)
    return net


def shufflenetv2_small(n_classes):
    """Return torchvision's ShuffleNetV2 x0.5 changed to the zoo's network for small images.

    The stem is a 1 × 1 convolution of stride 1, not 3 × 3, without max-pooling, so that the last
    maps of 32 px have 4 × 4 pixels. As in G-VBSM at eb1d690,
    Branch_CIFAR_100/relabel/models/ShuffleNetv2.py, except for the parameter names, which are
    torchvision's.
    """
    from torchvision.models import shufflenet_v2_x0_5

    net = shufflenet_v2_x0_5(num_classes=n_classes)
    net.conv1[0] = nn.Conv2d(3, 24, 1, bias=False)
    net.maxpool = nn.Identity()
    return net
