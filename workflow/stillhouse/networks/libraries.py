"""Networks and pretrained weights of torchvision and timm."""

import re

import torch

from stillhouse.data.transforms import MEAN, STD
from stillhouse.errors import StillhouseError
from stillhouse.networks.architectures import imagenet, split


def build(settings, n_classes, resolution):
    """Return a library's network with fresh weights, tried on two images.

    Parameters
    ----------
    settings : dict
        ``arch`` (``torchvision/…`` or ``timm/…``); ``pretrained`` if weights of that name will be
        loaded into it.
    n_classes : int
    resolution : int
        Side of the input [px].

    Raises
    ------
    StillhouseError
        If the network cannot take such images or has not one output a class.
    """
    library, name = split(settings["arch"])
    make = {"torchvision": _torchvision, "timm": _timm}[library]
    try:
        net = make(name, n_classes, resolution, settings.get("pretrained"))
        with torch.no_grad():
            outputs = net.eval()(torch.zeros(2, 3, resolution, resolution))
        if outputs.shape != (2, n_classes):
            raise ValueError(f"two images give {tuple(outputs.shape)}")
    # Whatever a library raises where a size does not suit it.
    except Exception as error:
        raise StillhouseError(
            f"{settings['arch']}: cannot be a classifier of {n_classes} classes at {resolution} px "
            f"({_line(error)}); another arch or resolution is needed"
        ) from None
    return net.train()


def _line(error):
    """Return the first line of what an error says, not too much of it, or its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _torchvision(name, n_classes, resolution, pretrained):
    from torchvision import models

    options = {}
    if name.startswith("vit_"):
        options["image_size"] = resolution
    if name.startswith("maxvit"):
        options["input_size"] = (resolution, resolution)
    if name in ("googlenet", "inception_v3"):
        # The auxiliary classifiers would make a training step return several outputs. Its weights
        # were made with other statistics, which the network itself sees to.
        options = {
            "aux_logits": False,
            "init_weights": True,
            "transform_input": pretrained is not None,
        }
    return models.get_model(name, num_classes=n_classes, **options)


def _timm(name, n_classes, resolution, pretrained):
    import timm

    net = _create_timm(name, resolution, num_classes=n_classes)
    if pretrained is not None:
        made_for = timm.get_pretrained_cfg(f"{name}.{pretrained}")
        _expect(net, made_for.mean, made_for.std)
    return net


def _create_timm(name, resolution, **options):
    """Call timm's factory with `img_size` where the network has such an argument."""
    import timm

    try:
        return timm.create_model(name, img_size=resolution, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **options)


def _expect(net, mean, std):
    """Have a network whose weights were made with other statistics take our normalised inputs."""
    ours, its = torch.tensor([MEAN, STD]), torch.tensor([mean, std])
    if torch.equal(ours, its):
        return
    scale = (ours[1] / its[1])[:, None, None]
    shift = ((ours[0] - its[0]) / its[1])[:, None, None]
    net.register_forward_pre_hook(
        lambda net, inputs: (inputs[0] * scale.to(inputs[0]) + shift.to(inputs[0]),)
    )


def pretrained(settings, classes, resolution):
    """Return the tensors of pretrained weights, with the outputs of `classes` alone, in order.

    The final layers are those that would have another shape with another number of classes. Of
    these, the rows of the classes are kept, by their places among ImageNet's (the order of timm's
    imagenet_synsets.txt).

    Parameters
    ----------
    settings : dict
        ``arch`` and ``pretrained``, the weights' name: torchvision's (``IMAGENET1K_V1``) or timm's
        tag (``a1_in1k``).
    classes : list of str
        WordNet ids.
    resolution : int
        Side of the input [px].
    """
    library, name = split(settings["arch"])
    fetch = {"torchvision": _fetch_torchvision, "timm": _fetch_timm}[library]
    where = f"{settings['pretrained']} of {settings['arch']}"
    try:
        tensors = fetch(name, settings["pretrained"], resolution)
    # Each library and its downloader have errors of their own.
    except Exception as error:
        raise StillhouseError(
            f"{where}: the weights cannot be had ({_line(error)}); where there is no network, they "
            "should lie in the library's cache, or be given as file and sha256"
        ) from None
    rows = torch.tensor([imagenet().index(class_id) for class_id in classes])
    for layer in _final_layers(settings, len(classes), resolution):
        if layer not in tensors or len(tensors[layer]) != len(imagenet()):
            raise StillhouseError(
                f"{where}: {layer!r} has not the 1000 outputs of ImageNet-1K; should be weights of "
                "a classifier of ImageNet-1K"
            )
        tensors[layer] = tensors[layer][rows]
    return tensors


def _final_layers(settings, n_classes, resolution):
    """Return the names of the tensors whose shape follows from the number of classes."""
    with torch.random.fork_rng([]):
        state, other = (build(settings, n_classes + i, resolution).state_dict() for i in (0, 1))
    return [name for name in state if state[name].shape != other[name].shape]


def _fetch_torchvision(name, member, resolution):
    from torchvision import models

    weights = models.get_model_weights(name)[member]
    tensors = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    # What torchvision's builders leave out or rename, too: auxiliary classifiers; names with dots.
    dotted = r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)"
    return {
        re.sub(dotted, r"\1", key): tensor
        for key, tensor in tensors.items()
        if not key.startswith(("aux1.", "aux2.", "AuxLogits."))
    }


def _fetch_timm(name, tag, resolution):
    return _create_timm(f"{name}.{tag}", resolution, pretrained=True).state_dict()
