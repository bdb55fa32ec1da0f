"""What the names in a config refer to, and settings that conflict with each other."""

import itertools

from stillhouse.artifacts.addresses import safe_name
from stillhouse.checks import known, ordered_crops
from stillhouse.config import protocols
from stillhouse.data.sources import catalogue
from stillhouse.diffusion.settings import check_classes, check_denoiser
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry
from stillhouse.networks import architectures


def check_sections(config):
    """Raise a `StillhouseError` if a section conflicts with itself or with those that it names.

    Parameters
    ----------
    config : dict
        With the schema's defaults and class lists; switches not decided.
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
    for section, check in checks.items():
        for name, settings in config[section].items():
            check(config, f"{section}.{name}", settings)


def _check_source(config, key, source):
    if not catalogue.by_reference(source):
        return
    for class_id in catalogue.classes(source):
        if {"/", "\\"} & set(class_id):
            raise StillhouseError(
                f"{key}.classes: {class_id!r} cannot name a folder, as class ids of this kind do; "
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
    """Raise a `StillhouseError` if a protocol conflicts with itself or with its labels.

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
        right = "ce" if fixed else "kl or mse_ce"
        raise StillhouseError(f"{key}.loss: {loss} conflicts with {kind} labels; set {right}")
    n_epochs = protocol["epochs"]
    for milestone in protocol.get("milestones", ()):
        if milestone >= (1 if n_epochs == "auto" else n_epochs):
            raise StillhouseError(
                f"{key}.milestones: {milestone:g} must be less than the epochs, {n_epochs}; lower "
                "it, or give a share below 1"
            )


def check_methods(config):
    """Raise a `StillhouseError` if a method conflicts with itself or with sections that it names.

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
    if "denoiser" in settings:
        known(f"{key}.denoiser", settings["denoiser"], config["denoisers"], "denoiser")
    _check_start(config, key, method.starts_from(settings))
    method.check(key, settings, config)


def _check_start(config, key, start):
    """Raise a `StillhouseError` if a method does not start from noise or real images in the end."""
    # An experiment's own variant may start from the method that it is a variant of.
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


def check_experiments(config, labels):
    """Raise a `StillhouseError` if an experiment's parts cannot be combined.

    Parameters
    ----------
    config : dict
        Settled.
    labels : dict
        Of the config, with the schema's defaults, before their views were decided.
    """
    for name, experiment in config["experiments"].items():
        _check_experiment(config, f"experiments.{name}", experiment)
        names = [config["protocols"][one]["labels"] for one in experiment["protocols"]]
        for (method, settings), name in itertools.product(experiment["methods"].items(), names):
            _check_patches(name, labels[name], method, settings)


def _check_experiment(config, key, experiment):
    known(f"{key}.dataset", experiment["dataset"], config["datasets"], "dataset")
    dataset = experiment["dataset"]
    for name in experiment["students"]:
        known(f"{key}.students", name, config["students"], "student")
        _check_resolution(config, f"students.{name}.arch", config["students"][name], dataset)
    for name in experiment["protocols"]:
        known(f"{key}.protocols", name, config["protocols"], "protocol")
        _check_labels_for(config, config["protocols"][name]["labels"], dataset)
        for student in experiment["students"]:
            _check_rate(config, name, student)
        for method, settings in experiment["methods"].items():
            _check_learned(config, name, method, settings)
    for name, method in experiment["methods"].items():
        _check_use(config, key, experiment, name, method)


def _check_use(config, key, experiment, name, settings):
    """Check a method for an experiment's dataset and IPCs; so too one whose set it starts from."""
    method, dataset = registry.method(settings["kind"]), config["datasets"][experiment["dataset"]]
    for teacher in itertools.chain(*method.teachers(settings).values()):
        _check_teacher_for(config, teacher, experiment["dataset"])
    smallest = catalogue.smallest_class(config["sources"][dataset["source"]])
    ipcs, own = experiment["ipc"], f"{key}.methods.{name}"
    if not method.unlimited:
        most, why = method.max_ipc(own, settings, ipcs, smallest, dataset["resolution"])
        if max(ipcs) > most:
            raise StillhouseError(
                f"{key}.ipc: must be at most {most} for method {name!r}, not {max(ipcs)}: {why}; "
                "lower it"
            )
    start = method.starts_from(settings)
    if start is not None:
        _check_use(config, key, experiment, start, config["methods"][start])
    if "denoiser" in settings:
        denoiser = settings["denoiser"]
        check_classes(f"denoisers.{denoiser}", config["denoisers"][denoiser], dataset["classes"])


def _check_labels_for(config, name, dataset):
    """Check labels for the classes and the resolution of a dataset."""
    labels, chosen = config["labels"][name], config["datasets"][dataset]
    for teacher in labels.get("teachers", ()):
        _check_teacher_for(config, teacher, dataset)
    _check_twice(config, name, labels, dataset)
    top, n_classes = labels.get("encoding", "float16").removeprefix("top"), len(chosen["classes"])
    if top.isdigit() and int(top) >= n_classes:
        raise StillhouseError(
            f"labels.{name}.encoding: top{top} must be less than the {n_classes} classes of "
            f"dataset {dataset!r}; lower it, or set float16"
        )
    side, resolution = labels["views"]["patches_per_side"], chosen["resolution"]
    if resolution % side:
        raise StillhouseError(
            f"labels.{name}.views.patches_per_side: {side} does not divide the {resolution} px of "
            f"dataset {dataset!r}; set shuffle_patches: false, or a divisor"
        )


def _check_twice(config, name, labels, dataset):
    """Raise a `StillhouseError` if labels name one teacher twice."""
    teachers = {}
    for teacher in labels.get("teachers", ()):
        settings = {"dataset": dataset, **config["teachers"][teacher], "min_accuracy": None}
        if "weights" in settings:
            settings["weights"] = {k: v for k, v in settings["weights"].items() if k != "file"}
        for other, others in teachers.items():
            if settings == others:
                raise StillhouseError(
                    f"labels.{name}.teachers: {other!r} and {teacher!r} are the same teacher; "
                    "remove one of them"
                )
        teachers[teacher] = settings


def _check_rate(config, protocol, student):
    arch = config["students"][student]["arch"]
    rate = config["protocols"][protocol]["learning_rate"]
    if rate == "auto" and arch not in protocols.LEARNING_RATES:
        raise StillhouseError(
            f"protocols.{protocol}.learning_rate: RDED's table has no rate for {arch!r} (student "
            f"{student!r}); set a number"
        )


def _check_learned(config, name, method, settings):
    """Raise a `StillhouseError` if a protocol needs what a method does not learn."""
    protocol, learns = config["protocols"][name], registry.method(settings["kind"]).learns(settings)
    kind = config["labels"][protocol["labels"]]["kind"]
    for part, value in (("labels", kind), ("learning_rate", protocol["learning_rate"])):
        if value == "learned" and part not in learns:
            raise StillhouseError(
                f"protocols.{name}.{part}: learned conflicts with method {method!r}, which learns "
                f"no {part}; use another protocol, or a method that learns it"
            )


def _check_patches(name, labels, method, settings):
    """Raise a `StillhouseError` if views silently ignore how many patches an image is made of."""
    side, views = settings.get("patches_per_side", 1), labels["views"]
    follows = "crop" not in views or "shuffle_patches" not in views
    if side > views["patches_per_side"] == 1 and follows and labels["fidelity"] == "code":
        raise StillhouseError(
            f"labels.{name}.views.patches_per_side: 1 conflicts with method {method!r}, whose "
            f"images have {side} × {side} patches, from which RDED's crop and shuffling follow; "
            f"set {side}, or give both crop and shuffle_patches"
        )


def _check_resolution(config, key, network, dataset):
    resolution = config["datasets"][dataset]["resolution"]
    architectures.check_resolution(key, network["arch"], resolution)


def _check_teacher_for(config, name, dataset):
    """Check a teacher for a dataset's images and classes."""
    teacher = config["teachers"][name]
    _check_resolution(config, f"teachers.{name}.arch", teacher, dataset)
    trained = teacher.get("dataset", dataset)
    own, its = config["datasets"][dataset], config["datasets"][trained]
    key = f"teachers.{name}.dataset"
    for what in ("source", "resolution"):
        if own[what] != its[what]:
            raise StillhouseError(
                f"{key}: {trained!r} has {what} {its[what]!r}, but dataset {dataset!r}, which the "
                f"teacher is used for, has {own[what]!r}; they must be the same"
            )
    missing = set(own["classes"]) - set(its["classes"])
    if missing:
        raise StillhouseError(
            f"{key}: {trained!r} lacks class {min(missing)!r} of dataset {dataset!r}; name a "
            "dataset that has all of its classes"
        )
    if "pretrained" in teacher.get("weights", ()):
        architectures.check_classes(f"teachers.{name}.weights.pretrained", its["classes"])
