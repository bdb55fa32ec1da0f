"""The names of the classifiers of torchvision and timm, their norms and pretrained weights.

python docs/architecture_names.py
"""

import timm
import torch
import torchvision
from stillhouse.networks import architectures
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models


def text(known=None):
    """Return the content of the list of names.

    Parameters
    ----------
    known : frozenset, optional
        Architectures that are not built again to see whether they have batch norms: those of the
        present list.
    """
    known = architectures.listed() if known is None else known
    weights = {f"timm/{name}": [] for name in timm.list_models()}
    for full_name in timm.list_pretrained():
        name, _, tag = full_name.partition(".")
        weights[f"timm/{name}"].append(tag)
    for name in models.list_models(module=models):
        members = models.get_model_weights(name)
        weights[f"torchvision/{name}"] = [member.name for member in members]
    lines = [
        "# Made by docs/architecture_names.py of "
        f"torchvision {torchvision.__version__.split('+')[0]} and timm {timm.__version__}."
    ]
    for arch in sorted(weights):
        built = arch not in known
        norm = has_batchnorm(arch) if built else architectures.has_batchnorm({"arch": arch})
        lines.append(" ".join([arch, "batch" if norm else "-", *sorted(weights[arch])]))
    return "\n".join(lines) + "\n"


def has_batchnorm(arch):
    """Return whether an architecture of a library has batch norms."""
    library, name = architectures.split(arch)
    # torchvision's RegNets compute their widths with tensors.
    with torch.device("cpu" if arch.startswith("torchvision/regnet") else "meta"):
        net = timm.create_model(name) if library == "timm" else models.get_model(name)
    return any(isinstance(module, _BatchNorm) for module in net.modules())


if __name__ == "__main__":
    architectures.NAMES.write_text(text())
