"""Checks of a denoiser's settings: origin of its weights, sizes, classes.

The check of a config imports this module: it imports no torch.
"""

from stillhouse.errors import StillhouseError


def is_trained(settings):
    """Return whether a denoiser is trained by the workflow; otherwise it is pretrained.

    Parameters
    ----------
    settings : dict
        Of the config or of the artifact.
    """
    return "train" in settings


def check_denoiser(key, denoiser):
    """Raise if a denoiser is not exactly one of trained and pretrained, or its sizes conflict."""
    if is_trained(denoiser) == ("pretrained" in denoiser):
        remedy = "train or pretrained" if denoiser["kind"] == "dit" else "pretrained"
        problem = "train conflicts with pretrained" if is_trained(denoiser) else "no weights"
        raise StillhouseError(f"{key}: {problem}; must have {remedy}")
    if is_trained(denoiser):
        _check_training(f"{key}.train", denoiser["train"], denoiser["resolution"])
        return
    check_pretrained(f"{key}.pretrained", denoiser["pretrained"])
    if denoiser["kind"] == "dit" and "class_labels" not in denoiser:
        raise StillhouseError(
            f"{key}.class_labels: missing; must have the label number of each class id, or be the "
            "name of a published list"
        )


def check_pretrained(key, weights):
    """Raise if weights are neither a folder with its digest nor a hub id with its commit."""
    if set(weights) not in ({"folder", "sha256"}, {"hub", "revision"}):
        raise StillhouseError(
            f"{key}: invalid keys {' and '.join(sorted(weights))}; must be folder and sha256, or "
            "hub and revision"
        )


def _check_training(key, train, resolution):
    autoencoder, network = train["autoencoder"], train["network"]
    factor = 2 ** (len(autoencoder["channels"]) - 1)
    groups = autoencoder["norm_groups"]
    for channels in autoencoder["channels"]:
        if channels % groups:
            raise StillhouseError(
                f"{key}.autoencoder.channels: invalid {channels}; must be multiples of "
                f"norm_groups, {groups}"
            )
    step = factor * network["patch_size"]
    if resolution % step:
        raise StillhouseError(
            f"{key}: resolution {resolution} conflicts with {len(autoencoder['channels'])} levels "
            f"and patches of {network['patch_size']}; must be a multiple of {step}"
        )
    # A position embedding consists of sines and cosines of two coordinates.
    for divisor, unit in ((network["heads"], " heads"), (4, "")):
        if network["width"] % divisor:
            raise StillhouseError(
                f"{key}.network.width: invalid {network['width']}; must be a multiple of "
                f"{divisor}{unit}"
            )


def check_classes(key, denoiser, class_ids):
    """Raise if a pretrained denoiser lacks the label of a class of a dataset."""
    unknown = [c for c in class_ids if c not in denoiser.get("class_labels", class_ids)]
    if unknown:
        raise StillhouseError(
            f"{key}.class_labels: missing class {unknown[0]!r}; must have every class"
        )
