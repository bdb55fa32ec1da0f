"""Settings of paper and code of SRe2L, CDA, G-VBSM and EDC, and settings without effect."""

import itertools

import pytest
from stillhouse.config.schema import definition, fill
from stillhouse.errors import StillhouseError
from stillhouse.methods import registry

KINDS = ("sre2l", "cda", "gvbsm", "edc")


def filled(kind, fidelity="code", **changes):
    """Return settings of a method with the schema's defaults."""
    settings = {"kind": kind, "fidelity": fidelity, "observers": ["a", "b"], **changes}
    return fill(settings, definition("method"))


def resolved(kind, *arguments, **changes):
    return registry.method(kind).resolve(filled(kind, *arguments, **changes))


def unused(kind, **changes):
    """Return [(group, names, reason)] of settings without effect, except groups without names."""
    method = registry.method(kind)
    entries = method.unused(method.with_switches(filled(kind, **changes)))
    return [(one.group, one.names, one.reason) for one in entries if one.names]


# SRe2L's recover script and G-VBSM's, both for ImageNet-1K; EDC's appendix A.1 and its scripts.
SAME = {
    "sre2l": {"initial": "noise", "order": "by_copy", "iterations": 4000, "learning_rate": 0.25},
    "gvbsm": {"initial": "noise", "order": "by_class", "iterations": 4000, "learning_rate": 0.1},
    "edc": {"initial": "real", "order": "by_class", "learning_rate": 0.05},
}
SAME["sre2l"] |= {"crop": [0.08, 1.0], "alpha": 1.0, "momentum": 0.0, "kinds": ["batchnorm"]}
SAME["cda"] = {**SAME["sre2l"], "curriculum": {"kind": "cosine", "share": 1.0}}
SAME["gvbsm"] |= {"crop": [0.08, 1.0], "alpha": 1.0, "momentum": 0.4}
SAME["edc"] |= {"crop": [0.5, 1.0], "alpha": 0.5, "momentum": 0.8}
SAME["gvbsm"]["kinds"] = SAME["edc"]["kinds"] = ["batchnorm", "convolution"]
CODE = {
    **{"initial_draw": "replacement", "class_terms": "mixture", "class_variance": "within"},
    **{"tile_statistics": "swapped", "momentum_start": "zero", "observer_order": "continued"},
}
PAPER = {
    **{"initial_draw": "distinct", "class_terms": "classes", "class_variance": "total"},
    **{"tile_statistics": "correct", "momentum_start": "first", "observer_order": "restart"},
}
CLASS_KEYS = {"class_terms", "class_variance", "class_layers", "tile_statistics"}
# Which of the switches have an effect on each kind.
USED = {
    "sre2l": {"observer_order"},
    "cda": {"observer_order"},
    "gvbsm": {"observer_order", "momentum_start"},
    "edc": set(CODE),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fidelity", "choices"), [("code", CODE), ("paper", PAPER)])
def test_each_kind_is_as_published(kind, fidelity, choices):
    settings = resolved(kind, fidelity)
    assert {name: settings.get(name) for name in SAME[kind]} == SAME[kind]
    assert {k: v for k, v in settings.items() if k in CODE} == {
        k: choices[k] for k in CODE if k in USED[kind]
    }
    assert settings["schedule"] == "cosine" and settings["batch_size"] == 100
    weights = {"cross_entropy": 1.0, "batchnorm": 0.01, "first_layer": 10.0}
    weights |= {"convolution": 0.0 if kind in ("sre2l", "cda") else 0.01}
    weights |= {"densification": float(kind == "gvbsm")}
    assert settings["loss_weights"] == weights
    if kind == "edc":
        assert settings["iterations"] == {"code": 1000, "paper": 2000}[fidelity]


def test_an_observer_verifies_in_the_code_alone():
    for kind, verifier in (("sre2l", None), ("gvbsm", "last"), ("edc", "first")):
        assert resolved(kind, "code").get("verifier") == verifier
        assert resolved(kind, "paper").get("verifier") == (verifier and "none")


def test_only_the_paper_of_edc_regularises_flatness():
    flatness = {"kind": "logits", "weight": 0.25, "beta": 0.99, "temperature": 4}
    assert resolved("edc", "paper")["flatness"] == flatness
    for kind, fidelity in (("edc", "code"), ("sre2l", "paper"), ("gvbsm", "paper")):
        assert resolved(kind, fidelity)["flatness"] == {"kind": "none"}


@pytest.mark.parametrize(
    ("kind", "used"),
    [
        ("none", set()),
        ("logits", {"weight", "beta", "temperature"}),
        ("statistics", {"weight", "beta"}),
        ("sam", {"weight"}),
    ],
)
def test_flatness_has_the_settings_of_its_kind(kind, used):
    changes = {"kind": kind, "weight": 0.5, "beta": 0.9, "temperature": 2}
    settings = resolved("edc", "paper", flatness=changes)["flatness"]
    assert settings == {k: v for k, v in changes.items() if k in used | {"kind"}}


@pytest.mark.parametrize(
    ("changes", "names", "reason"),
    [
        ({"alpha": 1}, CLASS_KEYS, "alpha: 1"),
        ({"momentum": 0}, {"momentum_start", "verifier"}, "momentum: 0"),
        ({"initial": "noise"}, {"initial_draw"}, "initial: noise"),
        ({"observers": ["a"]}, {"observer_order"}, "a single observer"),
        ({"tile": 0}, {"tile_statistics"}, "tile: 0"),
    ],
)
def test_settings_without_effect_are_omitted(changes, names, reason):
    groups = {"flatness": {"kind": "logits"}, "curriculum": {"kind": "step"}}
    assert unused("edc", **groups, **changes) == [("", names, reason)]
    usual, settings = resolved("edc"), resolved("edc", **changes)
    assert usual.keys() - settings.keys() == names
    assert all(settings[k] == usual[k] for k in settings.keys() - changes.keys())


def test_sre2l_with_a_curriculum_is_cda():
    cda = {**resolved("cda"), "kind": "sre2l"}
    assert resolved("sre2l", curriculum={"kind": "cosine"}) == cda
    assert resolved("cda", curriculum={"kind": "none"}).keys() == resolved("sre2l").keys()


def test_a_curriculum_needs_a_range_of_areas():
    entry = ("", {"curriculum"}, "a crop of one area")
    assert entry in unused("cda", crop=[0.5, 0.5])
    assert "curriculum" not in resolved("cda", crop=[0.5, 0.5])
    assert ("curriculum", {"share"}, "kind: none") in unused("sre2l", curriculum={"share": 0.5})


def test_a_border_leaves_no_crop():
    group = ("statistics", {"crop"}, "pad: 2")
    assert group in unused("edc", statistics={"pad": 2})
    assert "crop" not in resolved("edc", statistics={"pad": 2})["statistics"]


@pytest.mark.parametrize(
    ("weights", "kinds"),
    [
        ({"batchnorm": 0}, ["convolution"]),
        ({"convolution": 0}, ["batchnorm"]),
        ({"batchnorm": 0, "convolution": 0}, []),
        ({"batchnorm": 1, "convolution": 2}, ["batchnorm", "convolution"]),
    ],
)
def test_layers_of_weight_zero_are_not_matched(weights, kinds):
    settings = resolved("edc", loss_weights=weights, tile=8, convolution_dropout=0.4)
    assert settings["kinds"] == kinds
    expected = (8, 0.4) if "convolution" in kinds else (0, 0.0)
    assert (settings["tile"], settings["convolution_dropout"]) == expected


def test_all_images_at_once_is_a_batch_of_size_zero():
    assert resolved("edc", batch_size="all")["batch_size"] == 0
    assert resolved("edc", batch_size=7)["batch_size"] == 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fidelity", ["code", "paper"])
def test_kinds_are_names_of_settings(kind, fidelity):
    wanted = resolved("edc", fidelity, iterations=9)
    own = {k: v for k, v in wanted.items() if k not in ("kind", "kinds", "fidelity")}
    own["curriculum"] = {"kind": "none"}
    for other in ("code", "paper"):
        assert resolved(kind, other, **own) == {**wanted, "kind": kind, "fidelity": other}


def fits(**changes):
    """Return whether settings of EDC are valid for the observers; errors must be one line."""
    teachers = {
        "norms": {"arch": "convnet1", "norm": "batch"},
        "instance": {"arch": "convnet1", "norm": "instance"},
        "alexnet": {"arch": "alexnet_small"},
        "library": {"arch": "torchvision/resnet18"},
    }
    method = registry.method("edc")
    try:
        method.check("k", resolved("edc", **changes), {"teachers": teachers})
    except StillhouseError as error:
        assert str(error).startswith("k.") and "; " in str(error)
        return False
    return True


@pytest.mark.parametrize("observer", ["norms", "instance", "alexnet", "library"])
def test_batch_norms_are_matched_where_networks_have_them(observer):
    for batchnorm, convolution in itertools.product((0, 0.01), repeat=2):
        weights = {"batchnorm": batchnorm, "convolution": convolution}
        lacking = observer in ("instance", "alexnet") and batchnorm > 0 and not convolution
        observers = sorted({"norms", observer})
        assert fits(observers=observers, loss_weights=weights) is not lacking


def test_flatness_of_statistics_needs_a_matched_layer():
    for batchnorm, convolution in itertools.product((0, 0.01), repeat=2):
        weights = {"batchnorm": batchnorm, "convolution": convolution}
        changes = {"observers": ["norms"], "flatness": {"kind": "statistics"}}
        assert fits(loss_weights=weights, **changes) is (batchnorm + convolution > 0)


def test_at_least_one_loss_has_a_weight():
    zero = dict.fromkeys(("cross_entropy", "batchnorm", "convolution", "densification"), 0)
    assert not fits(observers=["norms"], loss_weights=zero)
    for name in zero:
        assert fits(observers=["norms"], loss_weights={**zero, name: 1})
