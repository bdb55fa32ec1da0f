"""From the user's YAML to settings that can be trusted: schema, defaults, references."""

import contextlib
import difflib
import math
import re
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from stillhouse import architectures, sources, switches
from stillhouse.errors import StillhouseError
from stillhouse.spec import safe_name

SCHEMA = Path(__file__).parents[1] / "schemas" / "config.schema.yaml"


@cache
def schema():
    """Return the JSON schema of the config."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(SCHEMA.read_text(), Loader=loader)


def complete(config, where):
    """Check a config and return it with all defaults filled in and numbers in one form.

    Parameters
    ----------
    config : dict
        As read from YAML.
    where : str
        The file's name, for messages.

    Raises
    ------
    StillhouseError
        One line: file, key, what is wrong, what would be right.
    """
    try:
        config = _read_text(config, schema())
        _check_schema(config)
        config = _override_methods(config)
        _check_schema(config)
        config = _fill(config, schema())
        config["labels"].setdefault("hard", _fill({"kind": "hard"}, _def("labels")))
        config = _list_classes(config)
        for name, source in config["sources"].items():
            _check_source(f"sources.{name}", source)
        _check_references(config)
    except StillhouseError as error:
        raise StillhouseError(f"{where}: {error}") from None
    return config


def _check_schema(config):
    _check_plain(config)
    validator = jsonschema.Draft202012Validator(schema())
    errors = [e for error in validator.iter_errors(config) for e in _inner(error)]
    # The deepest error says most: a wrong kind makes all keys of that kind look unknown.
    error = max(errors, key=lambda e: len(e.absolute_path), default=None)
    if error is not None:
        raise StillhouseError(_sentence(error))


def _inner(error):
    """Return what is wrong with the one alternative of a oneOf that a value was meant to be."""
    here = len(error.absolute_path)
    meant = [
        e
        for e in error.context
        if len(e.absolute_path) > here or e.validator not in ("const", "type")
    ]
    for e in meant:
        e.schema = {"description": error.schema.get("description"), **e.schema}
    return meant or [error]


def _check_plain(value, key=""):
    """Refuse what YAML can say and no schema sees: names that are numbers, NaN, infinity."""
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise StillhouseError(f"{key or 'the config'}: name {name!r} should be text")
            _check_plain(part, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            _check_plain(part, f"{key}.{i}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise StillhouseError(f"{key}: is {value!r}; should be a finite number")


def _sentence(error):
    """Say one schema error as `key: what is wrong; what would be right`."""
    key = ".".join(str(part) for part in error.absolute_path) or "the config"
    value, rule, kind = error.instance, error.validator_value, error.validator
    if kind in ("additionalProperties", "unevaluatedProperties"):
        known = sorted(_properties(error.schema, value))
        unknown = next(k for k in value if k not in known)
        near = difflib.get_close_matches(str(unknown), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        return f"{key}: unknown key {unknown!r}; {hint}"
    if kind == "required":
        absent = next(name for name in rule if name not in value)
        return f"{key}: {absent!r} is missing" + _meaning(
            _properties(error.schema, value).get(absent)
        )
    shown = f"{key}: is {value!r}" if kind != "propertyNames" else f"{key}: name {value!r}"
    wanted = {
        "type": f"should be of type {rule}",
        "enum": f"should be one of {', '.join(map(str, rule)) if kind == 'enum' else ''}",
        "const": f"should be {rule}",
        "minimum": f"should be at least {rule}",
        "maximum": f"should be at most {rule}",
        "exclusiveMinimum": f"should be more than {rule}",
        "exclusiveMaximum": f"should be less than {rule}",
        "pattern": f"should match {rule}",
        "uniqueItems": "should have each value once",
        "minItems": f"should have at least {rule} items",
        "maxItems": f"should have at most {rule} items",
        "minProperties": "should not be empty",
        "oneOf": "should be " + " or ".join(_brief(one) for one in rule) if kind == "oneOf" else "",
    }.get(kind, error.message)
    return f"{shown}; {wanted}" + _meaning(error.schema)


def _brief(one):
    return repr(one["const"]) if "const" in one else f"{one['type']}"


def _meaning(subschema):
    text = (subschema or {}).get("description")
    return f" ({text})" if text else ""


def _def(name):
    return schema()["$defs"][name]


def _properties(subschema, value):
    """Return the property schemas that apply to an object, through $ref and if/then."""
    found = {}
    if "$ref" in subschema:
        found |= _properties(_def(subschema["$ref"].rsplit("/", 1)[1]), value)
    found |= subschema.get("properties", {})
    for branch in subschema.get("allOf", ()):
        condition = branch["if"]["properties"]
        if all(_fits(value.get(k), rule) for k, rule in condition.items()):
            found |= _properties(branch["then"], value)
    return found


def _fits(value, rule):
    return re.search(rule["pattern"], str(value)) if "pattern" in rule else value == rule["const"]


def _resolved(subschema):
    """Return a property's schema with what its $ref says, and the types that it allows."""
    if "$ref" in subschema:
        subschema = {**_def(subschema["$ref"].rsplit("/", 1)[1]), **subschema}
    alternatives = [subschema, *subschema.get("oneOf", ())]
    return subschema, {one["type"] for one in alternatives if "type" in one}


def _read_text(value, subschema):
    """Return `value` with text turned into numbers where the schema wants numbers.

    YAML 1.1 reads 1e-3 as text, and Snakemake's --config all that lies deeper than one key.
    """
    subschema, types = _resolved(subschema)
    if isinstance(value, dict):
        known = _properties(subschema, value)
        other = subschema.get("additionalProperties") or {}
        return {k: _read_text(v, known.get(k, other)) for k, v in value.items()}
    if isinstance(value, list):
        return [_read_text(item, _branch(subschema, "items")) for item in value]
    if isinstance(value, str) and "string" not in types:
        for name, read in (("integer", int), ("number", float), ("boolean", _truth)):
            with contextlib.suppress(ValueError, KeyError):
                if name in types:
                    return read(value)
    return value


def _truth(text):
    return {"true": True, "false": False}[text.lower()]


def _branch(subschema, keyword):
    """Return what a schema, or the first of its alternatives that says so, has under a keyword."""
    alternatives = [subschema, *subschema.get("oneOf", ())]
    return next((one[keyword] for one in alternatives if keyword in one), {})


def _fill(value, subschema):
    """Return `value` with defaults filled in and numbers as the schema's type."""
    subschema, types = _resolved(subschema)
    if isinstance(value, dict):
        known = _properties(subschema, value)
        filled = {k: rule["default"] for k, rule in known.items() if "default" in rule}
        other = subschema.get("additionalProperties") or {}
        return {k: _fill(v, known.get(k, other)) for k, v in {**filled, **value}.items()}
    if isinstance(value, list):
        return [_fill(item, subschema.get("items", {})) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return float(value) if "number" in types else int(value) if "integer" in types else value


def _override_methods(config):
    """Turn an experiment's `{method: settings}` into a whole method of that experiment."""
    experiments = {}
    for name, experiment in config["experiments"].items():
        methods = []
        for entry in experiment["methods"]:
            base, changes = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            _known(f"experiments.{name}.methods", base, config["methods"], "methods")
            changed = _read_text({**config["methods"][base], **changes}, _def("method"))
            methods.append({base: changed} if changes else base)
        experiments[name] = {**experiment, "methods": methods}
        for method in methods:
            if isinstance(method, dict):
                try:
                    _check_schema({**config, "methods": method, "experiments": experiments})
                except StillhouseError as error:
                    raise StillhouseError(f"experiments.{name}.{error}") from None
    return {**config, "experiments": experiments}


def _list_classes(config):
    """Return a config with the class ids of the published lists that it names."""
    listed = {}
    for section in ("sources", "datasets"):
        listed[section] = {}
        for name, entry in config[section].items():
            value = entry.get("classes")
            if isinstance(value, str) and (section, value) != ("datasets", "all"):
                _known(
                    f"{section}.{name}.classes",
                    value,
                    sources.published_names(),
                    "published lists of classes",
                )
                value = list(sources.published_classes(value))
            if entry.get("kind") == "tiny_imagenet":
                value = sorted(value)
            listed[section][name] = {**entry, **({"classes": value} if value else {})}
    return {**config, **listed}


def wants_gpu(device):
    """Tell whether jobs of a ``compute.device`` will take a GPU of this machine."""
    return device.startswith("cuda") or (device == "auto" and Path("/dev/nvidiactl").exists())


def methods_of(config, experiment):
    """Return [(name, settings)] of an experiment's methods, overrides included."""
    found = []
    for entry in experiment["methods"]:
        if isinstance(entry, dict):
            name, settings = next(iter(entry.items()))
            found.append((name, _fill(settings, _def("method"))))
        else:
            found.append((entry, config["methods"][entry]))
    return found


def _known(key, name, section, title):
    if name not in section:
        near = difflib.get_close_matches(name, section, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(section))}"
        raise StillhouseError(f"{key}: {name!r} is not among the {title}; {hint}")


def classes_of(config, dataset):
    """Return the class ids of a dataset in the order of its labels."""
    settings = config["datasets"][dataset]
    if settings["classes"] == "all":
        return list(sources.classes(config["sources"][settings["source"]]))
    return list(settings["classes"])


def _check_references(config):
    for name, dataset in config["datasets"].items():
        _check_dataset(config, f"datasets.{name}", dataset)
    for name, teacher in config["teachers"].items():
        _check_recipe(config, f"teachers.{name}", teacher)
    for name, network in config["students"].items():
        architectures.check_name(f"students.{name}.arch", network["arch"])
    for name, method in config["methods"].items():
        _check_method(config, f"methods.{name}", method)
    for name, labels in config["labels"].items():
        _check_crop(f"labels.{name}.views.crop", switches.views(labels)["crop"])
        if "siamese" in labels["views"] and labels["views"]["mix"] != "none":
            raise StillhouseError(
                f"labels.{name}.views.mix: is {labels['views']['mix']!r}; beside siamese it should "
                "be none"
            )
        for teacher in labels.get("teachers", ()):
            _known(f"labels.{name}.teachers", teacher, config["teachers"], "teachers")
    for name, protocol in config["protocols"].items():
        _check_protocol(config, f"protocols.{name}", protocol)
    for name, experiment in config["experiments"].items():
        _check_experiment(config, f"experiments.{name}", experiment)


def _check_source(key, source):
    if source["kind"] not in sources.BY_REFERENCE:
        return
    for class_id in source["classes"]:
        if {"/", "\\"} & set(class_id):
            raise StillhouseError(
                f"{key}.classes: {class_id!r} cannot be the name of a folder; class ids of this "
                "kind are names of folders"
            )


def _check_dataset(config, key, dataset):
    _known(f"{key}.source", dataset["source"], config["sources"], "sources")
    known = sources.classes(config["sources"][dataset["source"]])
    for class_id in known:
        safe_name(class_id)
    for class_id in dataset["classes"] if dataset["classes"] != "all" else ():
        _known(f"{key}.classes", class_id, dict.fromkeys(known), "classes of the source")


def _check_crop(key, crop):
    if crop[0] > crop[1]:
        raise StillhouseError(f"{key}: is {crop}; the smaller area should come first")


def _check_recipe(config, key, teacher):
    if "dataset" in teacher:
        _known(f"{key}.dataset", teacher["dataset"], config["datasets"], "datasets")
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
    for name in teachers_of(method):
        what = "features" if "features" in method else "teacher"
        _known(f"{key}.{what}", name, config["teachers"], "teachers")


def teachers_of(method):
    """Return the names of the teachers that a method wants: none or one."""
    name = method.get("teacher", method.get("features", "pixels"))
    return [] if name == "pixels" else [name]


def _check_protocol(config, key, protocol):
    _known(f"{key}.labels", protocol["labels"], config["labels"], "labels")
    hard = config["labels"][protocol["labels"]]["kind"] == "hard"
    loss = protocol.get("loss", "ce" if hard else "kl")
    if hard != (loss == "ce"):
        right = "ce" if hard else "kl or mse_ce"
        raise StillhouseError(f"{key}.loss: is {loss!r}; these labels want {right}")
    _check_schedule(key, {**switches.PROTOCOL[protocol["fidelity"]], **protocol})


def _check_schedule(key, settings):
    name, epochs = settings["schedule"], settings["epochs"]
    for unused in switches.SCHEDULE_KEYS:
        if unused in settings and unused not in switches.SCHEDULES.get(name, {}):
            right = [n for n, keys in switches.SCHEDULES.items() if unused in keys]
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
    _known(f"{key}.dataset", experiment["dataset"], config["datasets"], "datasets")
    for name in experiment["students"]:
        _known(f"{key}.students", name, config["students"], "students")
        network = config["students"][name]
        _check_resolution(config, f"students.{name}.arch", network, experiment["dataset"])
    for name in experiment["protocols"]:
        _known(f"{key}.protocols", name, config["protocols"], "protocols")
        labels = config["labels"][config["protocols"][name]["labels"]]
        for teacher in labels.get("teachers", ()):
            _check_teacher(config, teacher, experiment["dataset"])
        _check_top(config, config["protocols"][name]["labels"], labels, experiment)
        _check_strips(config, config["protocols"][name]["labels"], labels, experiment)
        for student in experiment["students"]:
            _check_rate(config, name, student)
    names = [name for name, _ in methods_of(config, experiment)]
    for name, method in methods_of(config, experiment):
        if names.count(name) > 1:
            raise StillhouseError(f"{key}.methods: {name!r} is there twice; give one another name")
        _check_method(config, f"{key}.methods.{name}", method)
        for teacher in teachers_of(method):
            _check_teacher(config, teacher, experiment["dataset"])
        _check_ipc(config, key, experiment, name, switches.method(method))
        for protocol in experiment["protocols"]:
            _check_patches(config, config["protocols"][protocol]["labels"], name, method)


def _check_rate(config, protocol, student):
    arch = config["students"][student]["arch"]
    rate = config["protocols"][protocol]["learning_rate"]
    if rate == "auto" and arch not in switches.LEARNING_RATES:
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
    side = switches.views(labels)["patches_per_side"]
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


def _check_ipc(config, key, experiment, name, method):
    dataset = config["datasets"][experiment["dataset"]]
    smallest = sources.smallest_class(config["sources"][dataset["source"]])
    ipc, most, why = max(experiment["ipc"]), smallest, f"the smallest class has {smallest} images"
    nested = method.get("nested_in", ipc)
    if ipc > nested:
        raise StillhouseError(
            f"{key}.methods.{name}.nested_in: is {nested}; should be at least the IPC, {ipc}"
        )
    if method["kind"] == "rded":
        side, resolution = method["patches_per_side"], dataset["resolution"]
        if side > resolution:
            raise StillhouseError(
                f"{key}.methods.{name}.patches_per_side: is {side}; images of {resolution} px have "
                f"room for {resolution} at most"
            )
        images = min(method["images_per_class"], smallest)
        patches = method["patches_per_side"] ** 2
        most = images * min(method["patches_per_image"], method["crops_per_image"]) // patches
        why = f"{images} images a class give that many sets of {patches} patches"
    if nested > most:
        raise StillhouseError(
            f"{key}.ipc: is {nested}; method {name!r} can do {most} at most: {why}"
        )
