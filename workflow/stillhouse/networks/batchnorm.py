"""Batch normalisation: folding for evaluation, the momentum of its running statistics."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batchnorm(net):
    """Fold batch norms into the convolutions before them, in place; return the network.

    For evaluation only, and only neighbours in an `nn.Sequential`. Norms with an activation of
    their own, as timm has, stay. Outputs differ by rounding. A ConvNet on a CPU takes two thirds of
    the time.
    """
    for block in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i, (first, second) in enumerate(pairwise(list(block))):
            if isinstance(first, nn.Conv2d) and type(second) is nn.BatchNorm2d:
                block[i], block[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return net


def set_batchnorm_updates(net, updates):
    """Set momenta so that one forward pass updates running statistics as `updates` passes would.

    Two updates with the same batch, as in RDED's training loop (an extra forward pass without
    gradients before the real one), move them by 1 - (1 - m)² instead of m.
    """
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1 - (1 - module.momentum) ** updates


@torch.no_grad()
def has_single_values(net, side):
    """Return whether a batch norm has one value per channel and image, so that it needs two images.

    The network is evaluated on one image; its modules keep their modes.

    Parameters
    ----------
    net : torch.nn.Module
        On its device.
    side : int
        Of its input [px].
    """
    numbers, modes = [], {module: module.training for module in net.modules()}

    def count(module, arguments):
        numbers.append(arguments[0].numel() // arguments[0].shape[1])

    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [module.register_forward_pre_hook(count) for module in norms]
    try:
        if norms:
            parameter = next(net.parameters())
            net.eval()(parameter.new_zeros(1, 3, side, side))
    finally:
        for module, training in modes.items():
            module.training = training
        for hook in hooks:
            hook.remove()
    return 1 in numbers
