"""From a config with all defaults to settled settings, with every switch decided.

Settings without effect are an error if the user has set them, and removed if they are defaults.
"""

from stillhouse.config import protocols, schedules
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry

# Settings of a teacher with weights; all others are of training.
LOADED = {"arch", "width", "norm", "dropout", "dataset", "min_accuracy", "weights"}
# Settings of a trained teacher that are not part of its address.
TEACHER_DEFAULTS = {"pad": 0, "nesterov": True, "decay": "dimension"}


def settle(config, written, overrides):
    """Return settled settings: every switch decided, and none without effect.

    Parameters
    ----------
    config : dict
        With all defaults, its names checked; ``methods`` of an experiment are {name: settings}.
    written : dict
        As written by the user, without defaults.
    overrides : dict of str to dict
        {experiment: {method: overridden settings}}.

    Returns
    -------
    dict
        `config` with ``methods`` resolved, also in ``experiments``; trained ``teachers`` with every
        key of their schedule, milestones in epochs; ``labels`` with their views decided;
        ``protocols`` with loss, switches and schedule decided.

    Raises
    ------
    StillhouseError
        If the user has set a setting without effect.
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
            name: settle_one(f"{section}.{name}", entry, written.get(section, {}).get(name, {}))
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


def method(key, settings, written):
    """Return a method's settings, resolved; raise if a written one has no effect."""
    kind = registry.method(settings["kind"])
    for unused in kind.unused(kind.with_switches(settings)):
        group = unused.group
        own = written.get(group, {}) if group else written
        _check_effect(f"{key}.{group}" if group else key, own, unused.names, unused.reason)
    try:
        return kind.resolve(settings)
    except StillhouseError as error:
        raise StillhouseError(f"{key}.{error}") from None


def _teacher(key, settings, written):
    if "weights" in settings:
        return _without(key, settings, written, settings.keys() - LOADED, "weights")
    if settings["pad"]:
        settings = _without(key, settings, written, {"crop"}, f"pad: {settings['pad']}")
    if settings["optimizer"] == "adamw":
        settings = _without(key, settings, written, {"nesterov"}, "optimizer: adamw")
    settings = {k: v for k, v in settings.items() if (k, v) not in TEACHER_DEFAULTS.items()}
    return schedules.in_epochs(schedules.written_out(settings))


def _denoiser(key, settings, written):
    if settings["kind"] != "dit":
        return settings
    if "pretrained" in settings:
        return _without(key, settings, written, {"seed"}, "pretrained")
    return _without(key, settings, written, {"class_labels"}, "train")


def _labels(key, settings, written):
    views = settings["views"]
    if views["mix"] == "none":
        own = written.get("views", {})
        _check_effect(f"{key}.views", own, {"mix_alpha", "mix_per"}, "mix: none")
    if views["pad"]:
        own = written.get("views", {})
        _check_effect(f"{key}.views", own, {"crop"}, f"pad: {views['pad']}")
    decided = {name: value for name, value in settings.items() if name != "fidelity"}
    return {**decided, "views": protocols.views(settings)}


def _protocol(key, settings, written, labels):
    kind = labels[settings["labels"]]["kind"]
    for names, reason in protocols.unused(protocols.with_switches(settings, kind)):
        _check_effect(key, written, names, reason)
    return protocols.settled(settings, kind)


def _without(key, settings, written, names, reason):
    _check_effect(key, written, names, reason)
    return {name: value for name, value in settings.items() if name not in names}


def _check_effect(key, written, names, reason):
    """Raise a `StillhouseError` if a written setting is among names without effect."""
    for name in sorted(names & written.keys()):
        raise StillhouseError(f"{key}.{name}: has no effect with {reason}; remove it")
