"""The image tower of CLIP, from a local folder or the Hugging Face hub."""

from pathlib import Path

import torch

from stillhouse.artifacts import formats
from stillhouse.diffusion.pretrained import fetch, folder_digest, load_complete, read_config
from stillhouse.errors import StillhouseError
from stillhouse.training.loop import freeze

CLIP_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def load_clip(weights, folders, device):
    """Return CLIP's image tower with its projection, and the format of its input.

    Parameters
    ----------
    weights : dict
        ``{"sha256": ...}``: `folder_digest` of `clip_files` of the local folder
        ``folders[sha256]``. ``{"hub": name, "revision": commit}``: on the Hugging Face hub.
    folders : dict of str to str
    device : torch.device

    Returns
    -------
    net : torch.nn.Module
        In evaluation mode, float32.
    side : int
        Of its input [px].
    mean, std : (3, 1, 1) tensors
        Of its training images, in [0, 1].

    Raises
    ------
    StillhouseError
        If files are missing, have changed, or are of another model.
    """
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    folder = _clip_folder(weights, folders)
    config = read_config(folder / "config.json")
    if config.get("model_type") not in ("clip", "clip_vision_model"):
        raise StillhouseError(
            f"{folder}/config.json: model_type: invalid {config.get('model_type')!r}; must be clip "
            "or clip_vision_model"
        )
    net = load_complete(CLIPVisionModelWithProjection, folder).float()
    processor = read_config(folder / "preprocessor_config.json")
    mean, std = (
        torch.tensor(processor[name], device=device)[:, None, None]
        for name in ("image_mean", "image_std")
    )
    net = freeze(net.to(device))
    return net, net.config.image_size, mean, std


def _clip_folder(weights, folders):
    if "hub" in weights:
        folder = fetch(weights["hub"], weights["revision"], CLIP_FILES)
        clip_files(folder)
        return folder
    folder = Path(folders[weights["sha256"]])
    digest = folder_digest(clip_files(folder))
    if digest != weights["sha256"]:
        raise StillhouseError(
            f"{folder}: digest of its files: invalid {digest}; must be {weights['sha256']}, as in "
            "the config"
        )
    return folder


def clip_files(folder):
    """Return the files that CLIP is loaded from, {path within `folder`: SHA-256}."""
    for name in CLIP_FILES:
        if not (Path(folder) / name).is_file():
            raise StillhouseError(
                f"{Path(folder) / name}: missing; must be a CLIP model saved by transformers in "
                "safetensors, with its image processor"
            )
    return {name: formats.checksum(Path(folder) / name) for name in CLIP_FILES}
