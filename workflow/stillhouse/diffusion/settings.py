"""Checks of a denoiser's settings: where its weights come from, sizes, classes.

The config is read with this module: it imports no torch.
"""

from stillhouse.errors import StillhouseError


def is_trained(settings):
    """Return whether a denoiser is trained here; otherwise its weights are pretrained.

    Parameters
    ----------
    settings : dict
        Of the config or of the artifact.
    """
    return "train" in settings


def check_denoiser(key, denoiser):
    """Raise if a denoiser is not either trained or pretrained, or its sizes conflict."""
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
            f"{key}.class_labels: missing; must give the label number of each class id, or name a "
            "published list"
        )


def check_pretrained(key, weights):
    """Raise if weights are given by neither a folder and its digest, nor a hub and its commit."""
    if set(weights) not in ({"folder", "sha256"}, {"hub", "revision"}):
        raise StillhouseError(
            f"{key}: has {' and '.join(sorted(weights))}; must have folder and sha256, or hub and "
            "revision"
        )


def _check_training(key, train, resolution):
    autoencoder, network = train["autoencoder"], train["network"]
    factor = 2 ** (len(autoencoder["channels"]) - 1)
    groups = autoencoder["norm_groups"]
    for channels in autoencoder["channels"]:
        if channels % groups:
            raise StillhouseError(
                f"{key}.autoencoder.channels: has {channels}; must be multiples of norm_groups, "
                f"{groups}"
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
                f"{key}.network.width: is {network['width']}; must be a multiple of {divisor}{unit}"
            )


def check_classes(key, denoiser, class_ids):
    """Raise if a pretrained denoiser has no label for a class of a dataset."""
    unknown = [c for c in class_ids if c not in denoiser.get("class_labels", class_ids)]
    if unknown:
        raise StillhouseError(
            f"{key}.class_labels: missing class {unknown[0]!r}; must have every class"
        )
