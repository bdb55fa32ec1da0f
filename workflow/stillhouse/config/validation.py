"""What the names in a config refer to, and whether what they say together can be."""

import difflib

from stillhouse.artifacts.addresses import safe_name
from stillhouse.config import protocols
from stillhouse.config.limits import check_diffusion, check_ipc, check_synthesis
from stillhouse.config.schema import definition, fill
from stillhouse.data.sources import catalogue
from stillhouse.diffusion.settings import check_classes, check_denoiser
from stillhouse.errors import StillhouseError
from stillhouse.networks import architectures


def methods_of(config, experiment):
    """Return [(name, settings)] of an experiment's methods, overrides included."""
    found = []
    for entry in experiment["methods"]:
        if isinstance(entry, dict):
            name, settings = next(iter(entry.items()))
            found.append((name, fill(settings, definition("method"))))
        else:
            found.append((entry, config["methods"][entry]))
    return found


def known(key, name, section, title):
    """Refuse a name that a section of the config does not have."""
    if name not in section:
        near = difflib.get_close_matches(name, section, 1)
        there = ", ".join(sorted(section)) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"there are {there}"
        raise StillhouseError(f"{key}: {name!r} is not among the {title}; {hint}")


def classes_of(config, dataset):
    """Return the class ids of a dataset in the order of its labels."""
    settings = config["datasets"][dataset]
    if settings["classes"] == "all":
        return list(catalogue.classes(config["sources"][settings["source"]]))
    return list(settings["classes"])


def check_references(config):
    """Refuse names of nothing, and settings that cannot be together."""
    for name, source in config["sources"].items():
        _check_source(f"sources.{name}", source)
    for name, dataset in config["datasets"].items():
        _check_dataset(config, f"datasets.{name}", dataset)
    for name, teacher in config["teachers"].items():
        _check_recipe(config, f"teachers.{name}", teacher)
    for name, denoiser in config["denoisers"].items():
        check_denoiser(f"denoisers.{name}", denoiser)
    for name, network in config["students"].items():
        architectures.check_name(f"students.{name}.arch", network["arch"])
    for name, method in config["methods"].items():
        _check_method(config, f"methods.{name}", method)
    for name, labels in config["labels"].items():
        _check_labels(config, f"labels.{name}", labels)
    for name, protocol in config["protocols"].items():
        _check_protocol(config, f"protocols.{name}", protocol)
    for name, experiment in config["experiments"].items():
        _check_experiment(config, f"experiments.{name}", experiment)


def _check_source(key, source):
    """Refuse what a source's settings alone show to be wrong."""
    if not catalogue.by_reference(source):
        return
    for class_id in catalogue.classes(source):
        if {"/", "\\"} & set(class_id):
            raise StillhouseError(
                f"{key}.classes: {class_id!r} cannot be the name of a folder; class ids of this "
                "kind are names of folders"
            )


def _check_dataset(config, key, dataset):
    known(f"{key}.source", dataset["source"], config["sources"], "sources")
    there = catalogue.classes(config["sources"][dataset["source"]])
    for class_id in there:
        safe_name(class_id)
    for class_id in dataset["classes"] if dataset["classes"] != "all" else ():
        known(f"{key}.classes", class_id, dict.fromkeys(there), "classes of the source")


def _check_crop(key, crop):
    if crop[0] > crop[1]:
        raise StillhouseError(f"{key}: is {crop}; the smaller area should come first")


def _check_recipe(config, key, teacher):
    if "dataset" in teacher:
        known(f"{key}.dataset", teacher["dataset"], config["datasets"], "datasets")
    _check_crop(f"{key}.crop", teacher["crop"])
    architectures.check_name(f"{key}.arch", teacher["arch"])
    if "weights" in teacher:
        _check_weights(f"{key}.weights", teacher["arch"], teacher["weights"])


def _check_weights(key, arch, weights):
    if set(weights) not in ({"file", "sha256"}, {"pretrained"}):
        raise StillhouseError(
            f"{key}: has {' and '.join(sorted(weights))}; should have file and sha256, or "
            "pretrained"
        )
    if "pretrained" in weights:
        architectures.check_weights(f"{key}.pretrained", arch, weights["pretrained"])


def _check_method(config, key, method):
    if "crop" in method:
        _check_crop(f"{key}.crop", method["crop"])
    if "statistics" in method:
        _check_crop(f"{key}.statistics.crop", method["statistics"]["crop"])
    for name in teachers_of(method):
        what = next(what for what in ("observers", "features", "teacher") if what in method)
        known(f"{key}.{what}", name, config["teachers"], "teachers")
    if "observers" in method:
        check_synthesis(config, key, method)
    if "denoiser" in method:
        known(f"{key}.denoiser", method["denoiser"], config["denoisers"], "denoisers")
        check_diffusion(key, method, config["denoisers"][method["denoiser"]])


def teachers_of(method):
    """Return the names of the teachers that a method wants."""
    if method["kind"] == "ddps":
        return []
    if "observers" in method:
        return list(method["observers"])
    name = method.get("teacher", method.get("features", "pixels"))
    return [] if name == "pixels" else [name]


def _check_labels(config, key, labels):
    _check_crop(f"{key}.views.crop", protocols.views(labels)["crop"])
    if "siamese" in labels["views"] and labels["views"]["mix"] != "none":
        raise StillhouseError(
            f"{key}.views.mix: is {labels['views']['mix']!r}; beside siamese it should be none"
        )
    for teacher in labels.get("teachers", ()):
        known(f"{key}.teachers", teacher, config["teachers"], "teachers")


def _check_protocol(config, key, protocol):
    known(f"{key}.labels", protocol["labels"], config["labels"], "labels")
    kind = config["labels"][protocol["labels"]]["kind"]
    hard, loss = kind == "hard", protocols.loss(protocol, kind)
    if hard != (loss == "ce"):
        right = "ce" if hard else "kl or mse_ce"
        raise StillhouseError(f"{key}.loss: is {loss!r}; these labels want {right}")
    _check_schedule(key, {**protocols.PROTOCOL[protocol["fidelity"]], **protocol})


def _check_schedule(key, settings):
    name, epochs = settings["schedule"], settings["epochs"]
    for unused in protocols.SCHEDULE_KEYS:
        if unused in settings and unused not in protocols.SCHEDULES.get(name, {}):
            right = [n for n, keys in protocols.SCHEDULES.items() if unused in keys]
            raise StillhouseError(
                f"{key}.{unused}: has no meaning for schedule {name!r}; should not be there, or "
                f"the schedule be {' or '.join(right)}"
            )
    for milestone in settings.get("milestones", ()):
        if milestone >= (1 if epochs == "auto" else epochs):
            raise StillhouseError(
                f"{key}.milestones: has {milestone:g}, but there are {epochs} epochs; should be an "
                "epoch before the last, or a share below 1"
            )


def _check_experiment(config, key, experiment):
    known(f"{key}.dataset", experiment["dataset"], config["datasets"], "datasets")
    for name in experiment["students"]:
        known(f"{key}.students", name, config["students"], "students")
        network = config["students"][name]
        _check_resolution(config, f"students.{name}.arch", network, experiment["dataset"])
    for name in experiment["protocols"]:
        known(f"{key}.protocols", name, config["protocols"], "protocols")
        labels = config["labels"][config["protocols"][name]["labels"]]
        for teacher in labels.get("teachers", ()):
            _check_teacher(config, teacher, experiment["dataset"])
        _check_twice(config, config["protocols"][name]["labels"], labels, experiment["dataset"])
        _check_top(config, config["protocols"][name]["labels"], labels, experiment)
        _check_strips(config, config["protocols"][name]["labels"], labels, experiment)
        for student in experiment["students"]:
            _check_rate(config, name, student)
    names = [name for name, _ in methods_of(config, experiment)]
    for name, method in methods_of(config, experiment):
        if names.count(name) > 1:
            raise StillhouseError(f"{key}.methods: {name!r} is there twice; give one another name")
        _check_method(config, f"{key}.methods.{name}", method)
        _check_use(config, key, experiment, name, method)
        for protocol in experiment["protocols"]:
            _check_patches(config, config["protocols"][protocol]["labels"], name, method)


def _check_use(config, key, experiment, name, method):
    """Refuse a method for an experiment's dataset and IPCs; so too one whose set it starts from."""
    for teacher in teachers_of(method):
        _check_teacher(config, teacher, experiment["dataset"])
    check_ipc(config, key, experiment, name, protocols.method(method))
    if method.get("initial", "real") not in ("noise", "real"):
        start = method["initial"]
        _check_use(config, key, experiment, start, config["methods"][start])
    if "denoiser" in method:
        denoiser = config["denoisers"][method["denoiser"]]
        check_classes(
            f"denoisers.{method['denoiser']}",
            denoiser,
            classes_of(config, experiment["dataset"]),
        )


def _check_twice(config, name, labels, dataset):
    """Refuse two names of one teacher in the same labels."""
    seen = []
    for teacher in labels.get("teachers", ()):
        settings = {"dataset": dataset, **config["teachers"][teacher], "min_accuracy": None}
        if "weights" in settings:
            settings["weights"] = {k: v for k, v in settings["weights"].items() if k != "file"}
        if settings in seen:
            other = labels["teachers"][seen.index(settings)]
            raise StillhouseError(
                f"labels.{name}.teachers: {other!r} and {teacher!r} are the same teacher by two "
                "names; should be one of them, or teachers that differ"
            )
        seen.append(settings)


def _check_rate(config, protocol, student):
    arch = config["students"][student]["arch"]
    rate = config["protocols"][protocol]["learning_rate"]
    if rate == "auto" and arch not in protocols.LEARNING_RATES:
        raise StillhouseError(
            f"protocols.{protocol}.learning_rate: is 'auto', but RDED's table has no rate for "
            f"{arch!r} (student {student!r}); should be a number"
        )


def _check_top(config, name, labels, experiment):
    n_classes = len(classes_of(config, experiment["dataset"]))
    top = labels.get("encoding", "float16").removeprefix("top")
    if top.isdigit() and int(top) >= n_classes:
        raise StillhouseError(
            f"labels.{name}.encoding: is 'top{top}', but dataset {experiment['dataset']!r} has "
            f"{n_classes} classes; K should be less, or the encoding float16"
        )


def _check_strips(config, name, labels, experiment):
    side = protocols.views(labels)["patches_per_side"]
    resolution = config["datasets"][experiment["dataset"]]["resolution"]
    if resolution % side:
        raise StillhouseError(
            f"labels.{name}.views.patches_per_side: is {side}, which does not divide the "
            f"{resolution} px of dataset {experiment['dataset']!r}; set shuffle_patches: false, or "
            "a number that does"
        )


def _check_patches(config, name, method, settings):
    """Refuse views that silently ignore how many patches an image is made of."""
    labels, side = config["labels"][name], settings.get("patches_per_side", 1)
    given = labels["views"]
    follows = "crop" not in given or "shuffle_patches" not in given
    if side > given["patches_per_side"] == 1 and follows and labels["fidelity"] == "code":
        raise StillhouseError(
            f"labels.{name}.views.patches_per_side: is 1, but method {method!r} makes images of "
            f"{side} × {side} patches, from which RDED's crop and shuffling follow; should be "
            f"{side}, or say both crop and shuffle_patches"
        )


def _check_resolution(config, key, network, dataset):
    resolution = config["datasets"][dataset]["resolution"]
    architectures.check_resolution(key, network["arch"], resolution)


def _check_teacher(config, name, dataset):
    teacher = config["teachers"][name]
    _check_resolution(config, f"teachers.{name}.arch", teacher, dataset)
    trained = teacher.get("dataset", dataset)
    mine, its = config["datasets"][dataset], config["datasets"][trained]
    key = f"teachers.{name}.dataset"
    for what in ("source", "resolution"):
        if mine[what] != its[what]:
            raise StillhouseError(
                f"{key}: {trained!r} has {what} {its[what]!r}, but dataset {dataset!r}, which the "
                f"teacher should judge, has {mine[what]!r}; they should be the same"
            )
    unseen = set(classes_of(config, dataset)) - set(classes_of(config, trained))
    if unseen:
        raise StillhouseError(
            f"{key}: {trained!r} lacks class {min(unseen)!r} of dataset {dataset!r}; name a "
            "dataset that has all of its classes"
        )
    if "pretrained" in teacher.get("weights", ()):
        key = f"teachers.{name}.weights.pretrained"
        architectures.check_classes(key, classes_of(config, trained))
