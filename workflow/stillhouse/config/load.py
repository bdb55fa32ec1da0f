"""From the user's YAML to settings that can be trusted: schema, defaults, references."""

from pathlib import Path

from stillhouse.config import schema
from stillhouse.config.unused_settings import without_unused
from stillhouse.config.validation import check_references, known
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError


def complete(config, where):
    """Check a config; return it with the defaults of all that is used, numbers in one form.

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
        config = schema.read_text(config, schema.schema())
        schema.check(config)
        given = _override_methods(config)
        schema.check(given)
        config = schema.fill(given, schema.schema())
        config["labels"].setdefault(
            "hard", schema.fill({"kind": "hard"}, schema.definition("labels"))
        )
        config = _list_classes(config)
        check_references(config)
        config = without_unused(config, given)
    except StillhouseError as error:
        raise StillhouseError(f"{where}: {error}") from None
    return config


def _override_methods(config):
    """Turn an experiment's `{method: settings}` into a whole method of that experiment."""
    experiments = {}
    for name, experiment in config["experiments"].items():
        methods = []
        for entry in experiment["methods"]:
            base, changes = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            known(f"experiments.{name}.methods", base, config["methods"], "methods")
            changed = schema.read_text(
                {**config["methods"][base], **changes}, schema.definition("method")
            )
            methods.append({base: changed} if changes else base)
        experiments[name] = {**experiment, "methods": methods}
        for method in methods:
            if isinstance(method, dict):
                try:
                    schema.check({**config, "methods": method, "experiments": experiments})
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
                known(
                    f"{section}.{name}.classes",
                    value,
                    catalogue.published_names(),
                    "published lists of classes",
                )
                value = list(catalogue.published_classes(value))
            if entry.get("kind") == "tiny_imagenet":
                value = sorted(value)
            listed[section][name] = {**entry, **({"classes": value} if value else {})}
    listed["denoisers"] = {}
    for name, entry in config["denoisers"].items():
        value = entry.get("labels")
        if isinstance(value, str):
            key, names = f"denoisers.{name}.labels", catalogue.published_names()
            known(key, value, names, "published lists of classes")
            listed_ids = catalogue.published_classes(value)
            entry = {**entry, "labels": {class_id: i for i, class_id in enumerate(listed_ids)}}
        listed["denoisers"][name] = entry
    return {**config, **listed}


def wants_gpu(device):
    """Tell whether jobs of a ``compute.device`` will take a GPU of this machine."""
    return device.startswith("cuda") or (device == "auto" and Path("/dev/nvidiactl").exists())
