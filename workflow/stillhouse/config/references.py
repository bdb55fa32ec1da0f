"""What sets are compared with: full data, and the protocols that take the parts of the scores.

DD-Ranking's scores compare a set with real images under hard labels, and with random images under
a protocol and under its twin without augmentation. The parts follow from the protocols of an
experiment.
"""

from stillhouse.errors import StillhouseError, known

# Kind and names of the cells whose students are trained on all training images.
FULL_DATA = "full_data"
MATCHED = "matched"
# Settings that a protocol and labels without augmentation may have of their own.
OWN_OF_PROTOCOL = {"labels", "on_divergence"}
OWN_OF_LABELS = {"views", "views_stored", "epochs_stored", "epoch_order", "encoding", "seed"}
PLAIN_VIEWS = {"crop": [1.0, 1.0], "flip": 0.0, "mix": "none", "patches_per_side": 1}


def full_data_name(budget):
    """Return the name of a budget's row; no method can have it, since names have no spaces.

    Parameters
    ----------
    budget : str or int
        ``matched`` or a number of epochs, of the setting ``full_data``.
    """
    if budget == MATCHED:
        return "full data, matched"
    return f"full data, {budget} epoch{'s' if budget > 1 else ''}"


def of_protocol(config, experiment, protocol):
    """Return the protocols that take the parts of the scores under a protocol of an experiment.

    Parameters
    ----------
    config : dict
        Settled.
    experiment : dict
    protocol : str

    Returns
    -------
    dict
        ``hard_protocol``: the one with hard labels, of the setting of this name or the only one
        that is no twin. ``twin``: the only one that differs from the protocol by having no
        augmentation. Empty text for none or several.
    """
    own = experiment.get("hard_protocol")
    return {
        "hard_protocol": own or _only(hard_protocols(config, experiment)),
        "twin": _only(twins(config, experiment, protocol)),
    }


def hard_protocols(config, experiment):
    """Return the protocols of full data: those with hard labels, without twins of others.

    The one that the experiment names is always among them.
    """
    names = experiment["protocols"]
    without = {twin for name in names for twin in twins(config, experiment, name)}
    without.discard(experiment.get("hard_protocol"))
    return [name for name in names if _kind(config, name) == "hard" and name not in without]


def twins(config, experiment, protocol):
    """Return the protocols that differ from a protocol by having no augmentation."""
    own = _compared(config, protocol)
    if _is_plain(config, protocol):
        return []
    return [
        name
        for name in experiment["protocols"]
        if _is_plain(config, name) and _compared(config, name) == own
    ]


def check(config, key, experiment):
    """Raise a `StillhouseError` if references of an experiment are impossible.

    Parameters
    ----------
    config : dict
        Settled.
    key : str
        Of the experiment, for messages.
    experiment : dict
    """
    hard = experiment.get("hard_protocol")
    if hard is not None:
        known(f"{key}.hard_protocol", hard, experiment["protocols"], "protocol of the experiment")
        if _kind(config, hard) != "hard":
            raise StillhouseError(
                f"{key}.hard_protocol: {hard!r} has {_kind(config, hard)} labels; must be a "
                "protocol with hard labels"
            )
    if not experiment["full_data"]:
        return
    names = hard_protocols(config, experiment)
    if not names:
        raise StillhouseError(
            f"{key}.full_data: has no effect without a protocol with hard labels; add one to "
            "protocols, or remove it"
        )
    for name in names:
        if config["protocols"][name]["learning_rate"] == "learned":
            raise StillhouseError(
                f"{key}.full_data: conflicts with protocols.{name}.learning_rate: learned, which "
                "full data have none of; use another protocol, or remove it"
            )


def _only(names):
    return names[0] if len(names) == 1 else ""


def _kind(config, protocol):
    return _labels(config, protocol)["kind"]


def _labels(config, protocol):
    return config["labels"][config["protocols"][protocol]["labels"]]


def _is_plain(config, protocol):
    """Return whether a protocol has no augmentation: every view is the image itself."""
    return _labels(config, protocol)["views"] == PLAIN_VIEWS


def _compared(config, protocol):
    """Return the settings in which a protocol and its twin must agree."""
    settings, labels = config["protocols"][protocol], _labels(config, protocol)
    return (
        {name: value for name, value in settings.items() if name not in OWN_OF_PROTOCOL},
        {name: value for name, value in labels.items() if name not in OWN_OF_LABELS},
    )
