"""The networks that utilities draw, and images as their inputs."""

from torch.nn.modules.batchnorm import _BatchNorm

from stillhouse.data.transforms import normalise
from stillhouse.networks import registry


def random_network(settings, seed, item, device):
    """Return a network with random initial weights, without gradients to them.

    Batch norms compute the statistics of their inputs; there is no dropout.

    Parameters
    ----------
    settings : dict
        ``network`` (architecture and its options), ``classes``, ``resolution``.
    seed : int
    item : int or str
        Number of the network: with the seed, the address of its weights.
    device : torch.device
    """
    stage = f"utility network {item}"
    n_classes, side = len(settings["classes"]), settings["resolution"]
    net = registry.build(settings["network"], n_classes, side, seed, stage)
    for layer in net.eval().modules():
        if isinstance(layer, _BatchNorm):
            layer.train()
    return net.to(device).requires_grad_(False)


def inputs_of(images, prepare=normalise):
    """Return images in [0, 1], float32, as inputs of networks; differentiable.

    `prepare` is the function from pixels to inputs, see `stillhouse.data.whitening.preparation`.
    """
    return prepare(images * 255)
