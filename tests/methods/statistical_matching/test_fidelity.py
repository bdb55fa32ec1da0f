"""What paper and code decide of SRe2L, G-VBSM and EDC, and what their settings leave out."""

import pytest
from stillhouse.config import protocols
from stillhouse.config.schema import definition, fill
from stillhouse.methods.statistical_matching.fidelity import unused

KINDS = ("sre2l", "gvbsm", "edc")


def filled(kind, fidelity="code", **given):
    """Return settings of a method with the schema's defaults."""
    settings = {"kind": kind, "fidelity": fidelity, "observers": ["a", "b"], **given}
    return fill(settings, definition("method"))


def decided(*arguments, **given):
    return protocols.method(filled(*arguments, **given))


# SRe2L's recover script and G-VBSM's, both for ImageNet-1K; EDC's appendix A.1 and its scripts.
SAME = {
    "sre2l": {"initial": "noise", "order": "by_copy", "iterations": 4000, "learning_rate": 0.25},
    "gvbsm": {"initial": "noise", "order": "by_class", "iterations": 4000, "learning_rate": 0.1},
    "edc": {"initial": "real", "order": "by_class", "learning_rate": 0.05},
}
SAME["sre2l"] |= {"crop": [0.08, 1.0], "alpha": 1.0, "momentum": 0.0, "kinds": ["batchnorm"]}
SAME["gvbsm"] |= {"crop": [0.08, 1.0], "alpha": 1.0, "momentum": 0.4}
SAME["edc"] |= {"crop": [0.5, 1.0], "alpha": 0.5, "momentum": 0.8}
SAME["gvbsm"]["kinds"] = SAME["edc"]["kinds"] = ["batchnorm", "convolution"]
CODE = {
    **{"initial_draw": "replacement", "class_terms": "mixture", "class_variance": "within"},
    **{"tiles": "swapped", "momentum_start": "zero", "turns": "continued"},
}
PAPER = {
    **{"initial_draw": "distinct", "class_terms": "classes", "class_variance": "total"},
    **{"tiles": "right", "momentum_start": "first", "turns": "restart"},
}
CLASS_KEYS = {"class_terms", "class_variance", "class_layers", "tiles"}
# Which of the switches each kind uses.
USED = {
    "sre2l": {"turns"},
    "gvbsm": {"turns", "momentum_start"},
    "edc": set(CODE),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fidelity", "choices"), [("code", CODE), ("paper", PAPER)])
def test_each_kind_is_as_published(kind, fidelity, choices):
    found = decided(kind, fidelity)
    assert {name: found.get(name) for name in SAME[kind]} == SAME[kind]
    assert {k: v for k, v in found.items() if k in CODE} == {
        k: choices[k] for k in CODE if k in USED[kind]
    }
    assert found["schedule"] == "cosine" and found["batch_size"] == 100
    weights = {"cross_entropy": 1.0, "batchnorm": 0.01, "first_layer": 10.0}
    weights |= {"convolution": 0.0 if kind == "sre2l" else 0.01}
    weights |= {"densification": float(kind == "gvbsm")}
    assert found["weights"] == weights
    if kind == "edc":
        assert found["iterations"] == {"code": 1000, "paper": 2000}[fidelity]
    assert "fidelity" not in found


def test_the_paper_alone_seeks_flat_places():
    assert decided("edc", "paper")["flatness"] == {
        **{"on": "logits", "weight": 0.25, "beta": 0.99, "temperature": 4},
    }
    for kind, fidelity in (("edc", "code"), ("sre2l", "paper"), ("gvbsm", "paper")):
        assert decided(kind, fidelity)["flatness"] == {"on": "none"}


@pytest.mark.parametrize(
    ("on", "used"),
    [
        ("none", set()),
        ("logits", {"weight", "beta", "temperature"}),
        ("statistics", {"weight", "beta"}),
        ("sam", {"weight"}),
    ],
)
def test_flatness_keeps_what_it_uses(on, used):
    given = {"on": on, "weight": 0.5, "beta": 0.9, "temperature": 2}
    found = decided("edc", "paper", flatness=given)["flatness"]
    assert found == {k: v for k, v in given.items() if k in used | {"on"}}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_given_wins(kind):
    given = {
        **{"initial": "real", "order": "by_copy", "iterations": 7, "learning_rate": 0.3},
        **{"crop": [0.3, 0.9], "alpha": 0.25, "momentum": 0.5},
    }
    weights = {"densification": 0.5, "convolution": 0.1}
    crossed = {**given, **CODE, "flatness": {"on": "sam"}, "weights": weights}
    found = decided(kind, "paper", **crossed)
    assert {k: found[k] for k in given | CODE} == given | CODE
    assert found["flatness"] == {"on": "sam", "weight": 0.25}
    assert found["weights"]["densification"] == 0.5


LEFT_OUT = [
    ({"alpha": 1}, CLASS_KEYS, "alpha 1 matches no classes"),
    ({"momentum": 0}, {"momentum_start"}, "momentum 0 keeps nothing"),
    ({"initial": "noise"}, {"initial_draw"}, "initial 'noise' draws no images"),
    ({"observers": ["a"]}, {"turns"}, "one observer takes every turn"),
    (
        {"alpha": 1.0, "observers": ["a"]},
        CLASS_KEYS | {"turns"},
        "one observer takes every turn",
    ),
    ({"tile": 0}, {"tiles"}, "there are no tiles"),
]


@pytest.mark.parametrize(("given", "names", "why"), LEFT_OUT)
def test_what_others_leave_without_use_is_left_out(given, names, why):
    found = unused(filled("edc", **given))
    assert set().union(*(some for some, _ in found)) == names
    assert found[-1][1] == why
    usual, found = decided("edc"), decided("edc", **given)
    assert usual.keys() - found.keys() == names
    assert all(found[k] == usual[k] for k in found.keys() - given.keys())


def test_nothing_is_left_out_of_what_all_is_used_of():
    assert unused(filled("edc")) == []


@pytest.mark.parametrize(
    ("weights", "kinds"),
    [
        ({"batchnorm": 0}, ["convolution"]),
        ({"convolution": 0}, ["batchnorm"]),
        ({"batchnorm": 0, "convolution": 0}, []),
        ({"batchnorm": 1, "convolution": 2}, ["batchnorm", "convolution"]),
    ],
)
def test_layers_of_weight_zero_are_not_watched(weights, kinds):
    given = {"weights": weights, "tile": 8, "convolution_dropout": 0.4}
    found = decided("edc", **given)
    assert found["kinds"] == kinds
    watched = "convolution" in kinds
    assert (found["tile"], found["convolution_dropout"]) == ((8, 0.4) if watched else (0, 0.0))


def test_all_images_at_once_is_a_batch_of_no_size():
    assert decided("edc", batch_size="all")["batch_size"] == 0
    assert decided("edc", batch_size=7)["batch_size"] == 7


def test_weights_have_one_spelling():
    given = {"cross_entropy": 1, "batchnorm": 1, "convolution": 0, "first_layer": 1}
    found = decided("edc", weights=given)["weights"]
    assert all(isinstance(value, float) for value in found.values())
    assert found == decided("edc", weights={k: float(v) for k, v in given.items()})["weights"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fidelity", ["code", "paper"])
def test_kinds_are_names_of_settings(kind, fidelity):
    wanted = decided("edc", fidelity, iterations=9)
    said = {k: v for k, v in wanted.items() if k not in ("kind", "kinds")}
    for other in ("code", "paper"):
        found = decided(kind, other, **said)
        assert found.pop("kind") == kind
        assert found == {k: v for k, v in wanted.items() if k != "kind"}


@pytest.mark.parametrize("kind", KINDS)
def test_paper_with_the_switches_of_the_code_is_the_code(kind):
    said = {k: v for k, v in CODE.items() if k in USED[kind]}
    if kind == "edc":
        said |= {"iterations": 1000, "flatness": {"on": "none"}}
    assert decided(kind, "paper", **said) == decided(kind, "code")
