"""Networks and pretrained weights of torchvision and timm."""

import re

import torch

from stillhouse.data.transforms import MEAN, STD
from stillhouse.errors import StillhouseError, one_line
from stillhouse.networks.architectures import imagenet, split


def build(settings, n_classes, resolution):
    """Return a library's network with initial weights, after a forward pass of two images.

    Parameters
    ----------
    settings : dict
        ``arch`` (``torchvision/…`` or ``timm/…``); ``pretrained``, optional: name of weights that
        are loaded later.
    n_classes : int
    resolution : int
        Side of the input [px].

    Raises
    ------
    StillhouseError
        If the network does not support the size, or its outputs are not one per class.
    """
    library, name = split(settings["arch"])
    make = {"torchvision": _torchvision, "timm": _timm}[library]
    try:
        net = make(name, n_classes, resolution, settings.get("pretrained"))
        with torch.no_grad():
            outputs = net.eval()(torch.zeros(2, 3, resolution, resolution))
        if outputs.shape != (2, n_classes):
            raise ValueError(f"output shape {tuple(outputs.shape)} for two images")
    # Libraries raise errors of any type for unsupported sizes.
    except Exception as error:
        raise StillhouseError(
            f"{settings['arch']}: {n_classes} classes at {resolution} px are not supported "
            f"({one_line(error)}); use another arch or resolution"
        ) from None
    return net.train()


def _torchvision(name, n_classes, resolution, pretrained):
    from torchvision import models

    options = {}
    if name.startswith("vit_"):
        options["image_size"] = resolution
    if name.startswith("maxvit"):
        options["input_size"] = (resolution, resolution)
    if name in ("googlenet", "inception_v3"):
        # Auxiliary classifiers would give several outputs in training. The pretrained weights need
        # other normalisation statistics, which the network itself applies.
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
        config = timm.get_pretrained_cfg(f"{name}.{pretrained}")
        expect(net, config.mean, config.std)
    return net


def _create_timm(name, resolution, **options):
    """Call timm's factory with `img_size` if the network has such an argument."""
    import timm

    try:
        return timm.create_model(name, img_size=resolution, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(name, **options)


def expect(net, mean, std):
    """Convert the inputs of a network, normalised as ImageNet's, to another mean and deviation.

    Parameters
    ----------
    net : torch.nn.Module
        Changed in place: the conversion precedes its forward pass.
    mean, std : sequence of float
        One per channel, of pixels between 0 and 1.
    """
    current, expected = torch.tensor([MEAN, STD]), torch.tensor([mean, std])
    if torch.equal(current, expected):
        return
    scale = (current[1] / expected[1])[:, None, None]
    shift = ((current[0] - expected[0]) / expected[1])[:, None, None]
    net.register_forward_pre_hook(
        lambda net, inputs: (inputs[0] * scale.to(inputs[0]) + shift.to(inputs[0]),)
    )


def pretrained(settings, classes, resolution):
    """Return the tensors of pretrained weights, restricted to the outputs of `classes`, in order.

    The final layers are those whose shape depends on the number of classes. Their rows are selected
    by the positions of the classes in ImageNet-1K (the order of timm's imagenet_synsets.txt).

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
    # Libraries and their downloaders raise errors of any type.
    except Exception as error:
        raise StillhouseError(
            f"{where}: the weights cannot be loaded ({one_line(error)}); without a network "
            "connection, put them into the library's cache or set file and sha256"
        ) from None
    rows = torch.tensor([imagenet().index(class_id) for class_id in classes])
    for layer in _final_layers(settings, len(classes), resolution):
        if layer not in tensors or len(tensors[layer]) != len(imagenet()):
            raise StillhouseError(
                f"{where}: {layer!r} must have the 1000 outputs of ImageNet-1K; use the weights of "
                "a classifier of ImageNet-1K"
            )
        tensors[layer] = tensors[layer][rows]
    return tensors


def _final_layers(settings, n_classes, resolution):
    """Return the names of the tensors whose shape depends on the number of classes."""
    with torch.random.fork_rng([]):
        state = build(settings, n_classes, resolution).state_dict()
        larger = build(settings, n_classes + 1, resolution).state_dict()
    return [name for name in state if state[name].shape != larger[name].shape]


def _fetch_torchvision(name, member, resolution):
    from torchvision import models

    weights = models.get_model_weights(name)[member]
    tensors = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    # As in torchvision's builders: without auxiliary classifiers, names with dots renamed.
    dotted = r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)"
    return {
        re.sub(dotted, r"\1", key): tensor
        for key, tensor in tensors.items()
        if not key.startswith(("aux1.", "aux2.", "AuxLogits."))
    }


def _fetch_timm(name, tag, resolution):
    return _create_timm(f"{name}.{tag}", resolution, pretrained=True).state_dict()
