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


@torch.no_grad()
def penultimate(net, inputs):
    """Return the input of a network's `classifier`, (n, d) float32, averaged over positions."""
    layer, layer_inputs = classifier(net), []
    handle = layer.register_forward_pre_hook(lambda module, args: layer_inputs.append(args[0]))
    try:
        net(inputs)
    finally:
        handle.remove()
    features = layer_inputs[0].float()
    if isinstance(layer, nn.Conv2d):
        features = features.movedim(1, -1)
    return features.reshape(len(features), -1, features.shape[-1]).mean(1)
