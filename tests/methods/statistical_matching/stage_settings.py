"""Settings of the synthesis stage, without config and schema."""

WEIGHTS = {
    **{"cross_entropy": 1.0, "batchnorm": 0.01, "convolution": 0.01},
    **{"densification": 0.0, "first_layer": 10.0},
}
COMMON = {
    **{"batch_size": 100, "schedule": "cosine", "flip": 0.5, "shift": 0, "precision": "float32"},
    **{"tile": 4, "convolution_dropout": 0.0, "observer_order": "restart", "alpha": 1.0},
    **{"initial": "noise", "order": "by_class", "crop": [0.08, 1.0], "iterations": 6},
    **{"momentum_start": "first", "class_terms": "classes", "class_variance": "total"},
    **{"class_layers": "all", "tile_statistics": "correct"},
}
KINDS = {
    "sre2l": {"order": "by_copy", "learning_rate": 0.25, "momentum": 0.0},
    "gvbsm": {"learning_rate": 0.1, "momentum": 0.4},
    "edc": {
        **{"initial": "real", "initial_draw": "distinct", "crop": [0.5, 1.0]},
        **{"learning_rate": 0.05, "momentum": 0.8, "alpha": 0.5},
    },
}
KIND_WEIGHTS = {
    "sre2l": {"convolution": 0.0},
    "gvbsm": {"densification": 1.0},
    "edc": {},
}
FLATNESS = {"weight": 0.25, "beta": 0.99, "temperature": 4.0}
FLATNESS_KEYS = {"none": [], "sam": ["weight"], "statistics": ["weight", "beta"]}


def stage_settings(kind="edc", flatness=None, loss_weights=(), **changes):
    """Return the settings of one kind as in its paper, with changes."""
    weights = {**WEIGHTS, **KIND_WEIGHTS[kind], **dict(loss_weights)}
    flatness = flatness or {"kind": "logits" if kind == "edc" else "none"}
    keys = FLATNESS_KEYS.get(flatness["kind"], FLATNESS)
    settings = {
        **COMMON,
        **KINDS[kind],
        "loss_weights": {name: float(weight) for name, weight in weights.items()},
        "kinds": [name for name in ("batchnorm", "convolution") if weights[name] > 0],
        "flatness": {**{key: FLATNESS[key] for key in keys}, **flatness},
        **changes,
    }
    if "convolution" not in settings["kinds"]:
        settings |= {"tile": 0, "convolution_dropout": 0.0}
    return settings


def loss_names(settings):
    """Return the names of the losses that settings have, with observers of all layers."""
    names = {"cross_entropy", *settings["kinds"]}
    names |= {"densification"} if settings["loss_weights"]["densification"] else set()
    return names | ({"flatness"} if "beta" in settings["flatness"] else set())
