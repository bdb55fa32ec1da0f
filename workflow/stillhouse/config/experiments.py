"""Checks of experiments: sizes, classes, rates and labels of their parts must agree."""

import itertools
import math

from stillhouse.config import protocols, references
from stillhouse.data.sources import catalogue
from stillhouse.diffusion.settings import check_classes
from stillhouse.errors import StillhouseError, known
from stillhouse.methods import registry
from stillhouse.networks import architectures

# More take minutes to plan.
MAX_CELLS = 100_000
# Name of the page of all experiments.
OVERVIEW = "index"


def check_experiments(config, labels):
    """Raise a `StillhouseError` if the parts of an experiment conflict.

    Parameters
    ----------
    config : dict
        Settled.
    labels : dict
        Of the config, with the schema's defaults, before the decision of their views.
    """
    _check_cells(config)
    if OVERVIEW in config["experiments"]:
        raise StillhouseError(
            f"experiments.{OVERVIEW}: conflicts with results/report/{OVERVIEW}.html, the page of "
            "all experiments; use another name"
        )
    for name, experiment in config["experiments"].items():
        _check_experiment(config, f"experiments.{name}", experiment)
        names = [config["protocols"][one]["labels"] for one in experiment["protocols"]]
        for (method, settings), name in itertools.product(experiment["methods"].items(), names):
            _check_patches(name, labels[name], method, settings)


def _check_cells(config):
    """Raise a `StillhouseError` if all experiments together have too many cells to be planned."""
    shared = ("ipc", "students", "protocols", "seeds")
    count = sum(
        (
            len(experiment["methods"]) * len(experiment["distill_seeds"])
            + len(experiment["full_data"])
        )
        * math.prod(len(experiment[name]) for name in shared)
        for experiment in config["experiments"].values()
    )
    if count > MAX_CELLS:
        raise StillhouseError(
            f"experiments: {count:,} cells; must be at most {MAX_CELLS:,}, divide them into "
            "several configs"
        )


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
            architectures.check_batch_size(
                f"protocols.{name}.batch_size",
                config["students"][student],
                config["datasets"][dataset]["resolution"],
                config["protocols"][name]["batch_size"],
            )
        for method, settings in experiment["methods"].items():
            _check_learned(config, name, method, settings)
    for name, method in experiment["methods"].items():
        _check_use(config, key, experiment, name, method)
    references.check(config, key, experiment)


def _check_use(config, key, experiment, name, settings):
    """Check a method, and that of its initialisation, for the dataset and IPCs."""
    method, dataset = registry.method(settings["kind"]), config["datasets"][experiment["dataset"]]
    for teacher in itertools.chain(*method.teachers(settings).values()):
        _check_teacher_for(config, teacher, experiment["dataset"])
    smallest = catalogue.smallest_class(config["sources"][dataset["source"]])
    ipcs, own = experiment["ipc"], f"{key}.methods.{name}"
    if not method.unlimited:
        most, reason = method.max_ipc(own, settings, ipcs, smallest, dataset["resolution"])
        if max(ipcs) > most:
            raise StillhouseError(
                f"{key}.ipc: must be at most {most} for method {name!r}, not {max(ipcs)}: {reason}"
                "; lower it"
            )
    start = method.starts_from(settings)
    if start is not None:
        _check_use(config, key, experiment, start, config["methods"][start])
    for denoiser in itertools.chain(*method.denoisers(settings).values()):
        check_classes(f"denoisers.{denoiser}", config["denoisers"][denoiser], dataset["classes"])


def _check_labels_for(config, name, dataset):
    """Check labels for the classes and the resolution of a dataset."""
    labels, chosen = config["labels"][name], config["datasets"][dataset]
    for teacher in labels.get("teachers", ()):
        _check_teacher_for(config, teacher, dataset)
    _check_duplicate_teachers(config, name, labels, dataset)
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


def _check_duplicate_teachers(config, name, labels, dataset):
    """Raise a `StillhouseError` if two teachers of labels are equal."""
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
            f"protocols.{protocol}.learning_rate: missing in RDED's table for {arch!r} (student "
            f"{student!r}); set a number"
        )


def _check_learned(config, name, method, settings):
    """Raise a `StillhouseError` if a protocol needs labels or a rate that are not learned."""
    protocol, learns = config["protocols"][name], registry.method(settings["kind"]).learns(settings)
    kind = config["labels"][protocol["labels"]]["kind"]
    for part, value in (("labels", kind), ("learning_rate", protocol["learning_rate"])):
        if value == "learned" and part not in learns:
            raise StillhouseError(
                f"protocols.{name}.{part}: learned conflicts with method {method!r}, which learns "
                f"no {part}; use another protocol, or a method that learns it"
            )


def _check_patches(name, labels, method, settings):
    """Raise a `StillhouseError` if the defaults of views ignore the patches of images."""
    side, views = settings.get("patches_per_side", 1), labels["views"]
    by_default = "crop" not in views or "shuffle_patches" not in views
    if side > views["patches_per_side"] == 1 and by_default and labels["fidelity"] == "code":
        raise StillhouseError(
            f"labels.{name}.views.patches_per_side: 1 conflicts with method {method!r}, whose "
            f"images have {side} × {side} patches, which RDED's crop and shuffling depend on; "
            f"set {side}, or set both crop and shuffle_patches"
        )


def _check_resolution(config, key, network, dataset):
    resolution = config["datasets"][dataset]["resolution"]
    architectures.check_resolution(key, network["arch"], resolution)


def _check_teacher_for(config, name, dataset):
    """Check a teacher for a dataset's images and classes."""
    teacher = config["teachers"][name]
    _check_resolution(config, f"teachers.{name}.arch", teacher, dataset)
    architectures.check_batch_size(
        f"teachers.{name}.batch_size",
        teacher,
        config["datasets"][dataset]["resolution"],
        teacher.get("batch_size"),
    )
    trained = teacher.get("dataset", dataset)
    own, its = config["datasets"][dataset], config["datasets"][trained]
    key = f"teachers.{name}.dataset"
    for part in ("source", "resolution"):
        if own[part] != its[part]:
            raise StillhouseError(
                f"{key}: {part} {its[part]!r} of {trained!r} conflicts with {own[part]!r} of "
                f"dataset {dataset!r}, which the teacher is used for; they must be equal"
            )
    missing = set(own["classes"]) - set(its["classes"])
    if missing:
        raise StillhouseError(
            f"{key}: {trained!r} lacks class {min(missing)!r} of dataset {dataset!r}; set a "
            "dataset with all of its classes"
        )
    if "pretrained" in teacher.get("weights", ()):
        architectures.check_classes(f"teachers.{name}.weights.pretrained", its["classes"])
