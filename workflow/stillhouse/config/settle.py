"""From a config with all defaults to settled settings: every switch decided, once.

Settings that others leave without effect are refused where the user gave them, and left out where
they are defaults.
"""

from stillhouse.config import protocols, schedules
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry

# What a teacher with weights has; all else is its training.
LOADED = {"arch", "width", "norm", "dropout", "dataset", "min_accuracy", "weights"}


def settle(config, given, overrides):
    """Return settings of which nothing has to be decided or left out later.

    Parameters
    ----------
    config : dict
        With all defaults, its names checked; ``methods`` of an experiment are {name: settings}.
    given : dict
        Before the defaults were filled in.
    overrides : dict of str to dict
        {experiment: {method: settings that it changes}}.

    Returns
    -------
    dict
        As `config`, but ``methods`` resolved, here and in ``experiments``; ``teachers`` that are
        trained with every key of their schedule, milestones in epochs; ``labels`` with their views
        decided; ``protocols`` with loss, switches and schedule decided.

    Raises
    ------
    StillhouseError
        If the user gave a setting that has no effect.
    """
    sections = {
        "teachers": _teacher,
        "denoisers": _denoiser,
        "methods": method,
        "labels": _labels,
        "protocols": lambda *arguments: _protocol(*arguments, config["labels"]),
    }
    settled = {
        section: {
            name: settle_one(f"{section}.{name}", entry, given.get(section, {}).get(name, {}))
            for name, entry in config[section].items()
        }
        for section, settle_one in sections.items()
    }
    experiments = {}
    for name, experiment in config["experiments"].items():
        methods = dict.fromkeys(experiment["methods"])
        for chosen, changes in overrides[name].items():
            key = f"experiments.{name}.methods.{chosen}"
            own = method(key, experiment["methods"][chosen], changes) if changes else None
            methods[chosen] = own or settled["methods"][chosen]
        experiments[name] = {**experiment, "methods": methods}
    return {**config, **settled, "experiments": experiments}


def method(key, settings, given):
    """Return a method's settings, resolved; raise if one of those given has no effect."""
    kind = registry.method(settings["kind"])
    for unused in kind.unused(kind.with_switches(settings)):
        group = unused.group
        said = given.get(group, {}) if group else given
        _refuse(f"{key}.{group}" if group else key, said, unused.names, unused.reason)
    return kind.resolve(settings)


def _teacher(key, settings, given):
    if "weights" not in settings:
        return schedules.in_epochs(schedules.written_out(settings))
    return _without(key, settings, given, settings.keys() - LOADED, "weights")


def _denoiser(key, settings, given):
    if settings["kind"] != "dit":
        return settings
    if "pretrained" in settings:
        return _without(key, settings, given, {"seed"}, "pretrained")
    return _without(key, settings, given, {"class_labels"}, "train")


def _labels(key, settings, given):
    views = settings["views"]
    if views["mix"] == "none":
        _refuse(f"{key}.views", given.get("views", {}), {"mix_alpha", "mix_per"}, "mix: none")
    decided = {name: value for name, value in settings.items() if name != "fidelity"}
    return {**decided, "views": protocols.views(settings)}


def _protocol(key, settings, given, labels):
    kind = labels[settings["labels"]]["kind"]
    for names, reason in protocols.unused(protocols.with_switches(settings, kind)):
        _refuse(key, given, names, reason)
    return protocols.settled(settings, kind)


def _without(key, settings, given, names, reason):
    _refuse(key, given, names, reason)
    return {name: value for name, value in settings.items() if name not in names}


def _refuse(key, given, names, reason):
    """Raise a `StillhouseError` if one of the settings given is among names without effect."""
    for name in sorted(names & given.keys()):
        raise StillhouseError(f"{key}.{name}: has no effect with {reason}; remove it")
