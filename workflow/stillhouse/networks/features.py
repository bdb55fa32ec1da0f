"""Features of a network: the input of the layer that computes its logits."""

import torch
from torch import nn

from stillhouse.errors import StillhouseError


def classifier(net):
    """Return the layer that computes a network's logits: linear, or else a convolution.

    For timm's networks, the layer of `get_classifier`; of two heads (distilled transformers) the
    first, for the class token. For other networks, the last linear or convolutional layer.
    """
    head = net.get_classifier() if hasattr(net, "get_classifier") else net
    layers = list((head[0] if isinstance(head, tuple) else head).modules())
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    candidates = linear or [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    if not candidates:
        raise StillhouseError(
            f"{type(net).__name__}: missing linear or convolutional classifier, whose input are "
            "the features; use another arch"
        )
    return candidates[-1]


class ClassifierInput:
    """The input of a network's `classifier`, float32, with gradients.

    Parameters
    ----------
    net : torch.nn.Module
        Gets a hook.
    """

    def __init__(self, net):
        self.net, self.layer, self.inputs = net, classifier(net), []
        self.hook = self.layer.register_forward_pre_hook(
            lambda module, args: self.inputs.append(args[0])
        )

    def __call__(self, images):
        """Return the input of the layer for normalised images, (n, …)."""
        self.net(images)
        return self.inputs.pop().float()


@torch.no_grad()
def penultimate(net, inputs):
    """Return the input of a network's `classifier`, (n, d) float32, averaged over positions."""
    recorded = ClassifierInput(net)
    try:
        features = recorded(inputs)
    finally:
        recorded.hook.remove()
    if isinstance(recorded.layer, nn.Conv2d):
        features = features.movedim(1, -1)
    return features.reshape(len(features), -1, features.shape[-1]).mean(1)
