"""From the user's YAML to settled settings: schema, overrides, defaults, switches, checks."""

import contextlib
from pathlib import Path

from stillhouse.config import duplicates, experiments, includes, schema, validation
from stillhouse.config.settle import settle
from stillhouse.data import normalisation
from stillhouse.data.sources import catalogue
from stillhouse.errors import StillhouseError, known


def complete(config, where, files=()):
    """Check a config and return its settled settings.

    Parameters
    ----------
    config : dict
        As read from YAML.
    where : str
        Names of the files, for messages.
    files : sequence of str or Path
        The YAML files that it was read from, for the check of duplicate keys and for the files
        that they include, see `includes`.

    Returns
    -------
    dict
        All sections, with the defaults of all settings that have an effect. Of ``datasets``:
        ``source``, ``resolution``, ``classes``, the class ids in the order of the labels, and
        ``normalisation``, see `stillhouse.data.normalisation.settled`. Of
        ``methods``: the resolved settings, see `stillhouse.methods.base.Method.resolve`. Of each
        of ``experiments``: ``methods`` as {name: resolved settings}, overrides merged. Of
        ``labels``: ``views`` decided; ``hard`` always exists. Of ``protocols``: loss, schedule and
        switches decided, see `stillhouse.config.protocols.for_cell`. Of ``teachers``: schedule
        decided. Of ``denoisers``: ``class_labels`` as {class id: number}.

    Raises
    ------
    StillhouseError
        One line: file, key, problem, remedy.
    """
    for file in files:
        duplicates.check(file)
    parts = includes.included(files)
    for part in parts:
        duplicates.check(part)
    with located(where, files):
        written = schema.read_text(includes.merged(config, list(parts.values())), schema.schema())
        schema.check(written)
        overrides = _overrides(written)
        filled = _fill(written, overrides)
        validation.check_sections(filled)
        settled = settle(filled, written, overrides)
        validation.check_protocols(settled)
        validation.check_methods(settled)
        experiments.check_experiments(settled, filled["labels"])
    return settled


@contextlib.contextmanager
def located(where, files=()):
    """Put the names of a config's files, and of those that they include, before an error's message.

    Parameters
    ----------
    where : str
    files : sequence of str or Path
        As those of `complete`.
    """
    try:
        yield
    except StillhouseError as error:
        names = ", ".join([where, *(part.name for part in includes.included(files))])
        raise StillhouseError(f"{names}: {error}") from None


def _overrides(config):
    """Return {experiment: {method: overridden settings}}, checked by the schema."""
    overrides = {}
    for name, experiment in config["experiments"].items():
        key, changes_of = f"experiments.{name}.methods", {}
        for entry in experiment["methods"]:
            method, changes = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            known(key, method, config["methods"], "method")
            if method in changes_of:
                raise StillhouseError(
                    f"{key}: duplicate method {method!r}; copy it to another name under methods"
                )
            changes_of[method] = _read(config["methods"][method], changes)
            if changes:
                _check_override(config, name, method, changes_of[method])
        overrides[name] = changes_of
    return overrides


def _read(method, changes):
    """Return the overridden settings of a method, with text converted to numbers."""
    merged = schema.read_text({**method, **changes}, schema.definition("method"))
    return {name: merged[name] for name in changes}


def _check_override(config, experiment, method, changes):
    merged = {method: {**config["methods"][method], **changes}}
    try:
        schema.check({**config, "methods": merged})
    except StillhouseError as error:
        raise StillhouseError(f"experiments.{experiment}.{error}") from None


def _fill(written, overrides):
    """Return a config with the schema's defaults, class lists, and the methods of experiments."""
    labels = {"hard": {"kind": "hard"}, **written.get("labels", {})}
    config = schema.fill({**written, "labels": labels}, schema.schema())
    experiments = {}
    for name, experiment in config["experiments"].items():
        methods = {
            method: schema.fill(
                {**written["methods"][method], **changes}, schema.definition("method")
            )
            for method, changes in overrides[name].items()
        }
        experiments[name] = {**experiment, "methods": methods}
    sources = {
        name: _with_lists(f"sources.{name}", source) for name, source in config["sources"].items()
    }
    return {
        **config,
        "sources": sources,
        "datasets": {
            name: _with_dataset_classes(f"datasets.{name}", dataset, sources)
            for name, dataset in config["datasets"].items()
        },
        "denoisers": {
            name: _with_class_labels(f"denoisers.{name}", denoiser)
            for name, denoiser in config["denoisers"].items()
        },
        "experiments": experiments,
    }


def _with_lists(key, source):
    """Return a source with its class ids and Parquet files, if any, as lists."""
    if source["kind"] == "parquet":
        listed = {s: [source[s]] for s in ("train", "test") if isinstance(source[s], str)}
        source = {**source, **listed}
    if "classes" not in source:
        return source
    classes = _listed(f"{key}.classes", source["classes"])
    return {**source, "classes": sorted(classes) if source["kind"] == "tiny_imagenet" else classes}


def _with_dataset_classes(key, dataset, sources):
    """Return a dataset with its class ids as a list, in the order of its labels.

    And with its normalisation as [mean, standard deviation], unless it is ImageNet's.
    """
    known(f"{key}.source", dataset["source"], sources, "source")
    others = {name: value for name, value in dataset.items() if name != "normalisation"}
    dataset = {**others, **normalisation.settled(dataset["normalisation"])}
    if dataset["classes"] == "all":
        return {**dataset, "classes": list(catalogue.classes(sources[dataset["source"]]))}
    return {**dataset, "classes": _listed(f"{key}.classes", dataset["classes"])}


def _with_class_labels(key, denoiser):
    """Return a denoiser with its class labels, if any, as {class id: number}."""
    if not isinstance(denoiser.get("class_labels"), str):
        return denoiser
    classes = _listed(f"{key}.class_labels", denoiser["class_labels"])
    return {**denoiser, "class_labels": {class_id: i for i, class_id in enumerate(classes)}}


def _listed(key, classes):
    """Return class ids as a list, from a list or the name of a published list."""
    if not isinstance(classes, str):
        return list(classes)
    known(key, classes, catalogue.published_names(), "published list of classes")
    return list(catalogue.published_classes(classes))


def wants_gpu(device):
    """Return whether jobs of a ``compute.device`` will use a GPU of this machine."""
    return device.startswith("cuda") or (device == "auto" and Path("/dev/nvidiactl").exists())
