"""Settings that other settings leave without use: refused where they were given, or left out."""

import copy

from stillhouse.config import protocols
from stillhouse.errors import StillhouseError
from stillhouse.methods.statistical_matching import fidelity

# What a teacher with weights still has; all else is its training.
LOADED = {"arch", "width", "norm", "dropout", "dataset", "min_accuracy", "weights"}


def without_unused(config, given):
    """Return a complete config without the defaults of what nothing uses.

    Parameters
    ----------
    config : dict
        With all defaults, its references checked.
    given : dict
        The same before the defaults were filled in.

    Raises
    ------
    StillhouseError
        If one of them is no default: the user gave it.
    """
    config = copy.deepcopy(config)
    for path, unused, why in _unused(config):
        settings, said = config, given
        for step in path:
            settings, said = settings[step], said.get(step, {})
        for name in sorted(unused & settings.keys()):
            if name in said:
                raise StillhouseError(f"{'.'.join(path)}.{name}: is given, but {why}; leave it out")
            del settings[name]
    return config


def _unused(config):
    """Yield (path of settings, names that nothing uses there, why)."""
    for name, teacher in config["teachers"].items():
        if "weights" in teacher:
            unused = teacher.keys() - LOADED
            yield ("teachers", name), unused, "a teacher with weights is not trained"
    for name, denoiser in config["denoisers"].items():
        if denoiser["kind"] == "dit":
            given = "pretrained" in denoiser
            unused = {"seed"} if given else {"labels"}
            kind = "with pretrained weights" if given else "trained here"
            why = f"a denoiser {kind} has no use for it"
            yield ("denoisers", name), unused, why
    for name, method in config["methods"].items():
        yield from _unused_by_method(("methods", name), method)
    for name, labels in config["labels"].items():
        if labels["views"]["mix"] == "none":
            unused = {"mix_alpha", "mix_per"}
            yield ("labels", name, "views"), unused, "mix 'none' does not use it"
    for name, protocol in config["protocols"].items():
        loss = protocols.loss(protocol, config["labels"][protocol["labels"]]["kind"])
        unused = protocols.unused_by(loss)
        yield ("protocols", name), unused, f"loss {loss!r} does not use it"


def _unused_by_method(path, method):
    if "observers" in method:
        for group, *unused in fidelity.unused_within(method):
            yield (*path, group), *unused
    for unused in protocols.unused_by_method(method):
        yield path, *unused
