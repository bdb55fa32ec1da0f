"""Methods, their overrides and denoisers in conflict with the rest of the config."""

import pytest
from diffused import with_denoisers
from stillhouse.config.load import complete

from tests.config.changes import METHODS, all_of, drop, put, refusal

DENOISERS = {
    "unknown denoiser": (
        put("methods.d3hr.denoiser", "owm"),
        "methods.d3hr.denoiser: unknown denoiser 'owm'; did you mean 'own'?",
    ),
    "unknown denoiser of an override": (
        put(METHODS, [{"d4m": {"denoiser": "zz"}}]),
        "experiments.x.methods.d4m.denoiser: unknown denoiser 'zz'; available: dit, own, sd",
    ),
    "unknown list of class labels": (
        put("denoisers.dit.class_labels", "imagenet"),
        "denoisers.dit.class_labels: unknown published list of classes 'imagenet'; did you mean",
    ),
    "class labels without a class": (
        all_of(drop("denoisers.dit.class_labels.1"), put("methods.d3hr.denoiser", "dit")),
        "denoisers.dit.class_labels: ",
    ),
    "class labels of a trained denoiser": (
        put("denoisers.own.class_labels", {"0": 0, "1": 1, "2": 2}),
        "denoisers.own.class_labels: has no effect with train; remove it",
    ),
    "seed of a pretrained denoiser": (
        put("denoisers.dit.seed", 0),
        "denoisers.dit.seed: has no effect with pretrained; remove it",
    ),
    "neither trained nor pretrained": (drop("denoisers.own.train"), "denoisers.own: "),
}


@pytest.mark.parametrize(("change", "start"), DENOISERS.values(), ids=DENOISERS)
def test_a_wrong_denoiser_is_an_error_of_one_line(tiny, change, start):
    change(with_denoisers(tiny))
    assert refusal(tiny).startswith(start)


@pytest.mark.parametrize(
    ("kind", "changes", "name", "reason"),
    [
        ("d4m", {"fit": "full", "expand": 3}, "expand", "fit: full"),
        ("ddps", {"ranking": "score", "clusters": 4}, "clusters", "ranking: score"),
        (
            "d3hr",
            {"noising": "forward", "inversion_start": "zero"},
            "inversion_start",
            "noising: forward",
        ),
    ],
)
def test_an_override_without_effect_is_an_error_as_under_methods(tiny, kind, changes, name, reason):
    with_denoisers(tiny)["experiments"]["x"]["methods"] = [{kind: changes}]
    message = f"{name}: has no effect with {reason}; remove it"
    assert refusal(tiny) == f"{METHODS}.{kind}.{message}"
    tiny["experiments"]["x"]["methods"] = [kind]
    tiny["methods"][kind] |= changes
    assert refusal(tiny) == f"methods.{kind}.{message}"


def test_an_override_may_leave_inherited_settings_without_effect(tiny):
    with_denoisers(tiny)["methods"]["d4m"]["expand"] = 3
    tiny["experiments"]["x"]["methods"] = [{"d4m": {"fit": "full"}}]
    config = complete(tiny, "x.yaml")
    assert "expand" not in config["experiments"]["x"]["methods"]["d4m"]
    assert config["methods"]["d4m"]["expand"] == 3


def with_observers(config):
    """Put observers ``a``, ``b`` and methods that synthesise for them into a config."""
    for seed, name in enumerate("ab"):
        config["teachers"][name] = {"arch": "convnet1", "norm": "batch", "seed": seed}
    for kind in ("sre2l", "gvbsm", "edc"):
        config["methods"][kind] = {"kind": kind, "observers": ["a", "b"]}
        config["experiments"]["x"]["methods"].append(kind)
    return config


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (
            put("methods.edc.observers", ["a", "bb"]),
            "methods.edc.observers: unknown teacher 'bb'; did you mean 'b'?",
        ),
        (
            put("methods.edc.initial", "rdedd"),
            "methods.edc.initial: unknown initialisation 'rdedd'; did you mean 'rded'?",
        ),
        (
            put("methods.edc.initial", "edc"),
            "methods.edc.initial: circular initialisation (edc from edc); start one of them",
        ),
        (
            all_of(put("methods.edc.initial", "gvbsm"), put("methods.gvbsm.initial", "edc")),
            "methods.gvbsm.initial: circular initialisation (gvbsm from edc from gvbsm); start",
        ),
        (
            all_of(put("methods.edc.initial", "rded"), put("experiments.x.ipc", [21])),
            "experiments.x.ipc: must be at most 20 for method 'rded', not 21",
        ),
        (
            put("methods.edc.flatness", {"kind": "sam", "temperature": 9}),
            "methods.edc.flatness.temperature: has no effect with kind: sam; remove it",
        ),
        (
            put("methods.edc.statistics", {"crop": [0.9, 0.1]}),
            "methods.edc.statistics.crop: must be [smaller, larger]",
        ),
        (
            all_of(
                put("datasets.two", {"source": "digits", "classes": ["0", "1"], "resolution": 8}),
                put("teachers.b.dataset", "two"),
            ),
            "teachers.b.dataset: 'two' lacks class '2' of dataset 'three'",
        ),
    ],
)
def test_a_wrong_synthesis_is_an_error_of_one_line(tiny, change, start):
    change(with_observers(tiny))
    assert refusal(tiny).startswith(start)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"jitter": 1}, "experiments.x.methods.edc: unknown key 'jitter'; renamed to 'shift'"),
        (
            # YAML loads a plain on as a truth value.
            {"flatness": {True: "logits"}},
            "experiments.x.methods.0.edc.flatness: key True must be text; renamed to 'kind'",
        ),
        (
            {"flatness": {"on": "logits"}},
            "experiments.x.methods.edc.flatness: unknown key 'on'; renamed to 'kind'",
        ),
    ],
)
def test_an_old_key_of_an_override_has_its_new_name(tiny, override, message):
    with_observers(tiny)["experiments"]["x"]["methods"] = [{"edc": override}]
    assert refusal(tiny) == message


def test_methods_start_from_other_methods(tiny):
    with_observers(tiny)
    tiny["methods"]["gvbsm"] |= {"initial": "edc"}
    tiny["methods"]["edc"] |= {"initial": "rded"}
    # An override in an experiment may start from the method itself.
    tiny["experiments"]["x"] |= {"methods": ["gvbsm", {"edc": {"initial": "edc"}}], "ipc": [20]}
    complete(tiny, "x.yaml")
