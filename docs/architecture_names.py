"""The names of the classifiers of torchvision and timm and of their pretrained weights.

python docs/architecture_names.py
"""

import timm
import torchvision
from stillhouse.networks.architectures import NAMES
from torchvision import models


def text():
    """Return the content of the list of names: an architecture per line, then its weights."""
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
    lines += [" ".join([name, *sorted(weights[name])]).rstrip() for name in sorted(weights)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    NAMES.write_text(text())
