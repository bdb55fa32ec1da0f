"""Checks of a config's sections: references by name, and conflicting settings."""

from stillhouse.artifacts.addresses import safe_name
from stillhouse.config import protocols
from stillhouse.data.sources import catalogue
from stillhouse.diffusion.settings import check_denoiser
from stillhouse.errors import StillhouseError, known, ordered_crops
from stillhouse.methods import registry
from stillhouse.networks import architectures


def check_sections(config):
    """Raise a `StillhouseError` if settings of a section conflict, or a reference is unknown.

    Parameters
    ----------
    config : dict
        With the schema's defaults and class lists, before the decision of switches.
    """
    checks = {
        "sources": _check_source,
        "datasets": _check_dataset,
        "teachers": _check_teacher,
        "denoisers": lambda config, *entry: check_denoiser(*entry),
        "students": _check_student,
        "labels": _check_labels,
        "protocols": _check_protocol_names,
    }
    _check_compute(config["compute"])
    for section, check in checks.items():
        for name, settings in config[section].items():
            check(config, f"{section}.{name}", settings)


def _check_compute(compute):
    device, processes = compute["device"], compute["processes"]
    if ":" in device and processes > 1:
        raise StillhouseError(
            f"compute.processes: {processes} conflicts with compute.device {device!r}, a single "
            "GPU; must be 1, or the device cuda"
        )


def _check_source(config, key, source):
    if not catalogue.by_reference(source):
        return
    for class_id in catalogue.classes(source):
        if {"/", "\\"} & set(class_id):
            raise StillhouseError(
                f"{key}.classes: invalid {class_id!r}: class ids of this kind are folder names; "
                "remove the slash"
            )


def _check_dataset(config, key, dataset):
    classes = dict.fromkeys(catalogue.classes(config["sources"][dataset["source"]]))
    for class_id in classes:
        safe_name(class_id)
    for class_id in dataset["classes"]:
        known(f"{key}.classes", class_id, classes, f"class of source {dataset['source']!r}")


def _check_teacher(config, key, teacher):
    if "dataset" in teacher:
        known(f"{key}.dataset", teacher["dataset"], config["datasets"], "dataset")
    ordered_crops(key, teacher)
    architectures.check_name(f"{key}.arch", teacher["arch"])
    lowest = teacher.get("min_accuracy", 0)
    if 0 < lowest < 1:
        raise StillhouseError(
            f"{key}.min_accuracy: {lowest:g} must be 0 or at least 1, in percent; "
            f"set {100 * lowest:g} for a share of {lowest:g}"
        )
    weights = teacher.get("weights", {})
    if weights and set(weights) not in ({"file", "sha256"}, {"pretrained"}):
        raise StillhouseError(
            f"{key}.weights: must have file and sha256, or pretrained, not "
            f"{' and '.join(sorted(weights))}; remove or add keys"
        )
    if "pretrained" in weights:
        name = weights["pretrained"]
        architectures.check_weights(f"{key}.weights.pretrained", teacher["arch"], name)


def _check_student(config, key, network):
    architectures.check_name(f"{key}.arch", network["arch"])


def _check_labels(config, key, labels):
    ordered_crops(key, labels)
    if "siamese" in labels["views"] and labels["views"]["mix"] != "none":
        raise StillhouseError(
            f"{key}.views.mix: {labels['views']['mix']} conflicts with siamese; set mix: none"
        )
    for teacher in labels.get("teachers", ()):
        known(f"{key}.teachers", teacher, config["teachers"], "teacher")


def _check_protocol_names(config, key, protocol):
    known(f"{key}.labels", protocol["labels"], config["labels"], "labels")


def check_protocols(config):
    """Raise a `StillhouseError` if settings of a protocol conflict, or conflict with its labels.

    Parameters
    ----------
    config : dict
        Settled.
    """
    for name, protocol in config["protocols"].items():
        _check_protocol(config, f"protocols.{name}", protocol)


def _check_protocol(config, key, protocol):
    kind, loss = config["labels"][protocol["labels"]]["kind"], protocol["loss"]
    fixed = kind in protocols.FIXED_LABELS
    if fixed != (loss == "ce"):
        remedy = "set ce" if fixed else "set kl or mse_ce"
        raise StillhouseError(f"{key}.loss: {loss} conflicts with {kind} labels; {remedy}")
    n_epochs = protocol["epochs"]
    for milestone in protocol.get("milestones", ()):
        if milestone >= (1 if n_epochs == "auto" else n_epochs):
            raise StillhouseError(
                f"{key}.milestones: {milestone:g} must be less than the epochs, {n_epochs}; lower "
                "it, or set a share below 1"
            )


def check_methods(config):
    """Raise a `StillhouseError` if settings of a method conflict, or a reference is unknown.

    Parameters
    ----------
    config : dict
        Settled.
    """
    for name, method in config["methods"].items():
        _check_method(config, f"methods.{name}", method)
    for name, experiment in config["experiments"].items():
        for chosen, method in experiment["methods"].items():
            if method is not config["methods"][chosen]:
                _check_method(config, f"experiments.{name}.methods.{chosen}", method)


def _check_method(config, key, settings):
    method = registry.method(settings["kind"])
    ordered_crops(key, settings)
    for name, teachers in method.teachers(settings).items():
        for teacher in teachers:
            known(f"{key}.{name}", teacher, config["teachers"], "teacher")
    for name, denoisers in method.denoisers(settings).items():
        for denoiser in denoisers:
            known(f"{key}.{name}", denoiser, config["denoisers"], "denoiser")
    _check_start(config, key, method.starts_from(settings))
    method.check(key, settings, config)


def _check_start(config, key, start):
    """Raise a `StillhouseError` for a circular or unknown initialisation."""
    # An override of a method in an experiment may start from the method itself.
    chain = [key.removeprefix("methods.")] if key.startswith("methods.") else []
    while start is not None:
        known(f"{key}.initial", start, {"noise", "real", *config["methods"]}, "initialisation")
        if start in chain:
            raise StillhouseError(
                f"{key}.initial: circular initialisation ({' from '.join([*chain, start])}); start "
                "one of them from noise or real"
            )
        chain.append(start)
        settings = config["methods"][start]
        start = registry.method(settings["kind"]).starts_from(settings)
