"""Means and standard deviations of pixels by which networks expect their inputs normalised.

The check of a config imports this module: it imports no torch.
"""

# By name: (mean, standard deviation) per channel, of pixels between 0 and 1.
PUBLISHED = {
    # RDED, D3HR, DDPS, SRe2L: every dataset, or ImageNet.
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # DC, DM, MTT, RUO on CIFAR-10 and CIFAR-100; SRe2L on CIFAR-100.
    "cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    # EDC and G-VBSM on CIFAR-10 and CIFAR-100: means and deviations of CIFAR-100.
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def settled(setting):
    """Return {"normalisation": [mean, standard deviation]}; {} for those of ImageNet.

    Parameters
    ----------
    setting : str or dict
        A name of `PUBLISHED`, or ``mean`` and ``std``, three numbers each.
    """
    pair = PUBLISHED[setting] if isinstance(setting, str) else (setting["mean"], setting["std"])
    values = [[float(value) for value in part] for part in pair]
    if values == [list(part) for part in PUBLISHED["imagenet"]]:
        return {}
    return {"normalisation": values}
