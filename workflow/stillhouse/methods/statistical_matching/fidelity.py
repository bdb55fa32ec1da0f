"""SRe2L, G-VBSM and EDC as settings of one synthesis, and what paper and code differ in."""

# VILA-Lab/SRe2L at 8d00cba; shaoshitong/G_VBSM_Dataset_Condensation at 1ed80b0; shaoshitong/EDC at
# 80116a7, utils.py and recover.py, and the tables of EDC's appendix A.1.
_SYNTHESIS = {
    "code": {
        "initial_draw": "replacement",
        "class_terms": "mixture",
        "class_variance": "within",
        "tiles": "swapped",
        "momentum_start": "zero",
        "turns": "continued",
    },
    "paper": {
        "initial_draw": "distinct",
        "class_terms": "classes",
        "class_variance": "total",
        "tiles": "right",
        "momentum_start": "first",
        "turns": "restart",
    },
}
_FROM_NOISE = {"initial": "noise", "iterations": 4000, "crop": [0.08, 1.0], "alpha": 1.0}
_SRE2L = {**_FROM_NOISE, "order": "by_copy", "learning_rate": 0.25, "momentum": 0.0}
_GVBSM = {**_FROM_NOISE, "order": "by_class", "learning_rate": 0.1, "momentum": 0.4}
_EDC = {
    "initial": "real",
    "order": "by_class",
    "learning_rate": 0.05,
    "crop": [0.5, 1.0],
    "alpha": 0.5,
    "momentum": 0.8,
}
SWITCHES = {
    "sre2l": {name: {**given, **_SRE2L} for name, given in _SYNTHESIS.items()},
    "gvbsm": {name: {**given, **_GVBSM} for name, given in _SYNTHESIS.items()},
    "edc": {
        "code": {**_SYNTHESIS["code"], **_EDC, "iterations": 1000},
        "paper": {**_SYNTHESIS["paper"], **_EDC, "iterations": 2000},
    },
}
# Weights that kinds differ in: of convolutions, of densification.
WEIGHTS = {"sre2l": (0.0, 0.0), "gvbsm": (0.01, 1.0), "edc": (0.01, 0.0)}
# Settings of `flatness` that each kind of it uses.
FLATNESS = {
    "none": set(),
    "logits": {"weight", "beta", "temperature"},
    "statistics": {"weight", "beta"},
    "sam": {"weight"},
}
# Settings that only statistics of classes use.
CLASS_KEYS = {"class_terms", "class_variance", "class_layers", "tiles"}


def decide(decided, fidelity, kind):
    """Fill in what depends on the kind; leave out what the other settings do not use.

    The kind itself is no part of what is made: it is known by its settings.
    """
    convolution, densification = WEIGHTS[kind]
    usual = {"convolution": convolution, "densification": densification}
    weights = {**usual, **decided["weights"]}
    decided["weights"] = {name: float(value) for name, value in weights.items()}
    decided["kinds"] = [k for k in ("batchnorm", "convolution") if weights[k] > 0]
    decided["flatness"] = {"on": _flatness(kind, fidelity), **decided["flatness"]}
    for group, idle, _ in unused_within({**decided, "fidelity": fidelity}):
        decided[group] = {k: v for k, v in decided[group].items() if k not in idle}
    decided["batch_size"] = 0 if decided["batch_size"] == "all" else decided["batch_size"]
    if "convolution" not in decided["kinds"]:
        decided |= {"tile": 0, "convolution_dropout": 0.0}
    return decided


def unused(settings):
    """Return [(names of settings that the others leave without use, why)]."""
    given = {**SWITCHES[settings["kind"]][settings["fidelity"]], **settings}
    found = []
    unmatched = given["weights"].get("convolution", WEIGHTS[settings["kind"]][0]) == 0
    if unmatched:
        found.append(({"tile", "convolution_dropout"}, "convolutions are not matched"))
    if given["alpha"] == 1:
        found.append((CLASS_KEYS, "alpha 1 matches no classes"))
        if unmatched:
            found.append(({"statistics"}, "batch norms know what is matched"))
    elif unmatched or given["tile"] == 0:
        found.append(({"tiles"}, "there are no tiles"))
    if given["momentum"] == 0:
        found.append(({"momentum_start"}, "momentum 0 keeps nothing"))
    if given["initial"] == "noise":
        found.append(({"initial_draw"}, "initial 'noise' draws no images"))
    if len(given["observers"]) == 1:
        found.append(({"turns"}, "one observer takes every turn"))
    return found


def unused_within(settings):
    """Yield (key of a group of settings, names in it that the others leave without use, why)."""
    kind, fidelity = settings["kind"], settings["fidelity"]
    on = settings["flatness"].get("on", _flatness(kind, fidelity))
    yield (
        "flatness",
        FLATNESS["logits"] - FLATNESS[on],
        f"flatness {on!r} does not use it",
    )
    if settings.get("statistics", {}).get("pad"):
        yield "statistics", {"crop"}, "a view that is cut from a border is not resized"


def _flatness(kind, fidelity):
    return "logits" if (kind, fidelity) == ("edc", "paper") else "none"
