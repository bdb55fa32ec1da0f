"""What a method or a denoiser can do: images a class, steps, sizes."""

from stillhouse.errors import StillhouseError


def check_denoiser(key, denoiser):
    """Refuse a denoiser that is neither trained nor given, or whose sizes do not fit."""
    if ("train" in denoiser) == ("pretrained" in denoiser):
        there = "both" if "train" in denoiser else "neither"
        wanted = "train or pretrained" if denoiser["kind"] == "dit" else "pretrained"
        raise StillhouseError(f"{key}: has {there} of train and pretrained; should have {wanted}")
    if "train" in denoiser:
        _check_training(f"{key}.train", denoiser["train"], denoiser["resolution"])
        return
    check_pretrained(f"{key}.pretrained", denoiser["pretrained"])
    if denoiser["kind"] == "dit" and "class_labels" not in denoiser:
        raise StillhouseError(
            f"{key}: 'class_labels' is missing (the label number of each class id, or a published "
            "list)"
        )


def check_pretrained(key, given):
    """Refuse weights that are not known by a folder and its digest, or by a hub and its commit."""
    if set(given) not in ({"folder", "sha256"}, {"hub", "revision"}):
        raise StillhouseError(
            f"{key}: has {' and '.join(sorted(given))}; should have folder and sha256, or hub and "
            "revision"
        )


def _check_training(key, train, resolution):
    autoencoder, network = train["autoencoder"], train["network"]
    factor = 2 ** (len(autoencoder["channels"]) - 1)
    groups = autoencoder["norm_groups"]
    for channels in autoencoder["channels"]:
        if channels % groups:
            raise StillhouseError(
                f"{key}.autoencoder.channels: has {channels}; should have multiples of "
                f"norm_groups, {groups}"
            )
    step = factor * network["patch_size"]
    if resolution % step:
        raise StillhouseError(
            f"{key}: {len(autoencoder['channels'])} levels and patches of {network['patch_size']} "
            f"need a resolution that {step} divides; it is {resolution}"
        )
    # Sines and cosines of two coordinates are what tells a token its place.
    for divisor, what in ((network["heads"], " heads"), (4, "")):
        if network["width"] % divisor:
            raise StillhouseError(
                f"{key}.network.width: is {network['width']}; should be a multiple of "
                f"{divisor}{what}"
            )


def check_classes(key, denoiser, class_ids):
    """Refuse a given denoiser that does not know a dataset's classes."""
    unknown = [c for c in class_ids if c not in denoiser.get("class_labels", class_ids)]
    if unknown:
        raise StillhouseError(
            f"{key}.class_labels: has no number for class {unknown[0]!r}; should have one for "
            "every class"
        )
