"""Stages with new addresses after an edit of the config: those it affects, and their downstream."""

import copy
import functools

import pytest
from diffused import METHODS, with_denoisers
from stillhouse.config.schema import definition, properties

from tests.conftest import TINY
from tests.planning.configs import (
    CODED,
    MATCHING,
    SOURCE,
    SYNTHESES,
    ancestor,
    build,
    changed,
    digests,
    places,
    put,
    set_digests,
    sets_of,
    with_codec,
    with_matching,
    with_observers,
)

# Stages of a set of each kind, in order, from the first that a setting affects.
CHAINS = {
    "rded": ["patch_scores", "distilled"],
    "d3hr": ["denoiser", "latents", "inversion", "samples", "decode", "distilled"],
    "ddps": ["denoiser", "latents", "class_scores", "patch_features", "clusters", "distilled"],
    "d4m": ["denoiser", "latents", "prototypes", "decode", "distilled"],
    "edc": ["statistics", "synthesis", "distilled"],
    "dm": ["matched", "distilled"],
    "gm": ["matched", "distilled"],
    "tm": ["trajectories", "matched", "distilled"],
    "compressed": ["compression", "bitstream", "distilled"],
    "ruo": ["compression", "rate_utility", "bound", "bitstream", "distilled"],
}
CLIP = {"folder": "weights/clip", "sha256": "7" * 64}
# Kind, setting, value; the first stage that changes.
EDITS = [
    ("rded", "crops_per_image", 3, "patch_scores"),
    ("rded", "images_per_class", 21, "patch_scores"),
    ("rded", "crop", [0.1, 1.0], "patch_scores"),
    ("rded", "scoring", "resize", "patch_scores"),
    ("rded", "patches_per_side", 1, "patch_scores"),
    ("rded", "patches_per_image", 2, "distilled"),
    ("rded", "selection", "random", "distilled"),
    ("rded", "nested_in", 4, "distilled"),
    ("rded", "assignment", "random", "distilled"),
    ("rded", "rounding", "nearest", "distilled"),
    ("rded", "encoding", "png", "distilled"),
    ("rded", "encoding", "webp30", "distilled"),
    ("rded", "fidelity", "paper", "distilled"),
    ("d3hr", "latents", "mode", "inversion"),
    ("d3hr", "steps", 40, "inversion"),
    ("d3hr", "inversion_steps", 30, "inversion"),
    ("d3hr", "snapshots", [20, 31], "inversion"),
    ("d3hr", "images_per_class", 50, "inversion"),
    ("d3hr", "guidance", 2, "inversion"),
    ("d3hr", "noising", "forward", "inversion"),
    ("d3hr", "inversion_start", "clean", "inversion"),
    ("d3hr", "variance", 0.9, "samples"),
    ("d3hr", "sampler", "exact", "samples"),
    ("d3hr", "candidates", 10, "samples"),
    ("d3hr", "terms", "squared", "samples"),
    ("d3hr", "std", "target", "samples"),
    ("d3hr", "skewness", "group", "samples"),
    ("d3hr", "loss_weights", {"mean": 2}, "samples"),
    ("d3hr", "loss_weights", {"std": 0}, "samples"),
    ("d3hr", "loss_weights", {"skewness": 0.5}, "samples"),
    ("d3hr", "draw_on", "cuda", "samples"),
    ("d3hr", "sampling_start", "aligned", "decode"),
    ("d3hr", "encoding", "jpeg", "distilled"),
    ("d3hr", "fidelity", "paper", "inversion"),
    ("ddps", "latents", "mode", "class_scores"),
    ("ddps", "draws", 10, "class_scores"),
    ("ddps", "timesteps", [0.1, 0.6], "class_scores"),
    ("ddps", "images_per_class", 50, "class_scores"),
    ("ddps", "timestep", 100, "patch_features"),
    ("ddps", "layer", 0, "patch_features"),
    ("ddps", "ensemble", 1, "patch_features"),
    ("ddps", "features", "clip", "patch_features"),
    ("ddps", "clusters", 31, "clusters"),
    ("ddps", "clusters_used", 9, "distilled"),
    ("ddps", "variant", "concat", "distilled"),
    ("ddps", "encoding", "jpeg", "distilled"),
    ("d4m", "latents", "mode", "prototypes"),
    ("d4m", "fit", "full", "prototypes"),
    ("d4m", "expand", 2, "prototypes"),
    ("d4m", "steps", 40, "decode"),
    ("d4m", "strength", 0.5, "decode"),
    ("d4m", "guidance", 2, "decode"),
    ("d4m", "scheduler", "ddim", "decode"),
    ("d4m", "encoding", "jpeg", "distilled"),
    ("d4m", "fidelity", "paper", "prototypes"),
    ("edc", "initial", "noise", "synthesis"),
    ("edc", "initial", "random", "synthesis"),
    ("edc", "initial_draw", "distinct", "synthesis"),
    ("edc", "order", "by_copy", "synthesis"),
    ("edc", "batch_size", 2, "synthesis"),
    ("edc", "iterations", 7, "synthesis"),
    ("edc", "learning_rate", 0.5, "synthesis"),
    ("edc", "schedule", "constant", "synthesis"),
    ("edc", "crop", [0.3, 1.0], "synthesis"),
    ("edc", "curriculum", {"kind": "linear"}, "synthesis"),
    ("edc", "curriculum", {"kind": "cosine", "share": 0.5}, "synthesis"),
    ("edc", "flip", 0.0, "synthesis"),
    ("edc", "shift", 2, "synthesis"),
    ("edc", "loss_weights", {"cross_entropy": 2}, "synthesis"),
    ("edc", "loss_weights", {"batchnorm": 0.1}, "synthesis"),
    ("edc", "loss_weights", {"convolution": 0.1}, "synthesis"),
    ("edc", "loss_weights", {"first_layer": 1}, "synthesis"),
    ("edc", "loss_weights", {"densification": 1}, "synthesis"),
    ("edc", "convolution_dropout", 0.4, "synthesis"),
    ("edc", "tile", 2, "statistics"),
    ("edc", "alpha", 0.25, "synthesis"),
    ("edc", "class_terms", "classes", "synthesis"),
    ("edc", "class_variance", "total", "synthesis"),
    ("edc", "class_layers", "convolution", "synthesis"),
    ("edc", "tile_statistics", "correct", "synthesis"),
    ("edc", "momentum", 0.5, "synthesis"),
    ("edc", "momentum_start", "first", "synthesis"),
    ("edc", "verifier", "none", "synthesis"),
    ("edc", "verifier", "last", "synthesis"),
    ("edc", "flatness", {"kind": "logits"}, "synthesis"),
    ("edc", "flatness", {"kind": "statistics"}, "synthesis"),
    ("edc", "flatness", {"kind": "sam"}, "synthesis"),
    ("edc", "observer_order", "restart", "synthesis"),
    ("edc", "statistics", {"crop": [0.5, 1.0]}, "statistics"),
    ("edc", "statistics", {"pad": 1}, "statistics"),
    ("edc", "statistics", {"flip": 0.0}, "statistics"),
    ("edc", "statistics", {"seed": 1}, "statistics"),
    ("edc", "precision", "bfloat16", "synthesis"),
    ("edc", "encoding", "jpeg", "distilled"),
    ("edc", "fidelity", "paper", "synthesis"),
    *(
        (kind, *edit, "matched")
        for kind in MATCHING
        for edit in (
            ("iterations", 7),
            ("learning_rate", 0.5),
            ("momentum", 0.9),
            ("clamp", True),
            ("initial", "random"),
        )
    ),
    *((kind, "encoding", "jpeg", "distilled") for kind in MATCHING),
    *((kind, "real_images", 7, "matched") for kind in ("dm", "gm")),
    *((kind, "siamese", ["crop"], "matched") for kind in ("dm", "gm")),
    ("gm", "outer_steps", 3, "matched"),
    ("gm", "inner_epochs", 3, "matched"),
    ("gm", "inner_batch_size", 3, "matched"),
    ("gm", "network_rate", 0.3, "matched"),
    ("tm", "siamese", [], "trajectories"),
    ("tm", "student_steps", 3, "matched"),
    ("tm", "student_batch_size", 2, "matched"),
    ("tm", "student_rate", 0.5, "matched"),
    ("tm", "student_rate_step", 0.5, "matched"),
    ("tm", "student_rate_minimum", 0.5, "matched"),
    ("tm", "gradient", "tesla", "matched"),
    # Experts are trained for the epochs that are needed.
    ("tm", "expert_epochs", 2, "trajectories"),
    ("tm", "start_epochs", 3, "trajectories"),
    ("tm", "experts", {"count": 101}, "matched"),
    ("tm", "experts", {"epochs": 9}, "trajectories"),
    ("tm", "experts", {"batch_size": 9}, "trajectories"),
    ("tm", "experts", {"learning_rate": 0.5}, "trajectories"),
    ("tm", "experts", {"seed": 1}, "trajectories"),
    *(
        (kind, *edit, "compression")
        for kind in CODED
        for edit in (
            ("initial", "random"),
            ("slice", "set"),
            ("decoder", "v4-40"),
            ("context", 16),
            ("depth", 2),
            ("warmup", {"beta": 10}),
            ("warmup", {"beta": 100, "restarts": 2}),
            ("warmup", {"beta": 100, "iterations": 3}),
            ("warmup", {"beta": 100, "finalists": 1}),
            ("warmup", {"beta": 100, "final_iterations": 3}),
            ("warmup", {"beta": 100, "learning_rate": 0.1}),
            ("warmup", {"beta": 100, "schedule": "c3"}),
            ("warmup", {"beta": 100, "noise": "gaussian"}),
            ("warmup", {"beta": 100, "clip": 1}),
            ("fidelity", "paper"),
        )
    ),
    ("compressed", "bound", 1e-3, "bitstream"),
    ("ruo", "joint", {"lambda": [3]}, "rate_utility"),
    ("ruo", "joint", {"lambda": [2, 1]}, "rate_utility"),
    ("ruo", "joint", {"lambda": [2], "iterations": 3}, "rate_utility"),
    ("ruo", "joint", {"lambda": [2], "learning_rate": 0.1}, "rate_utility"),
    ("ruo", "joint", {"lambda": [2], "ramp": 3}, "rate_utility"),
    ("ruo", "joint", {"lambda": [2], "noise": "kumaraswamy"}, "rate_utility"),
    ("ruo", "joint", {"lambda": [2], "clip": 1}, "rate_utility"),
    ("ruo", "real_images", 7, "rate_utility"),
    ("ruo", "siamese", ["crop"], "rate_utility"),
    ("ruo", "holdout", 0.2, "rate_utility"),
    ("ruo", "bounds", [1e-3, 1e-4], "bound"),
]
# Setting of a denoiser, value; the first stage that changes.
EDITS_OF_DENOISERS = [
    ("train.network.steps", 5, "denoiser"),
    ("train.network.ema", 0.95, "denoiser"),
    ("train.autoencoder.kl_weight", 0.5, "denoiser"),
    ("seed", 1, "denoiser"),
    ("resolution", 12, "denoiser"),
    ("precision", "bfloat16", "latents"),
]
# Settings that name other parts of the config, or need another denoiser, have separate tests.
OTHERS = {
    "kind",
    "teacher",
    "denoiser",
    "observers",
    "network",
    "utility",
    "patch",
    "ranking",
    "clip",
    "dift_input",
}


def base(kind):
    """Return a config whose sets are of one kind of method and of others."""
    config = copy.deepcopy(TINY)
    if kind in METHODS:
        config = with_denoisers(config)
    elif kind in SYNTHESES:
        config = with_observers(config)
    elif kind in MATCHING:
        config = with_matching(config)
    elif kind in CODED:
        config = with_codec(config)
    config["methods"].get("rded", {})["patches_per_side"] = 2
    # So that labels are valid for any number of patches.
    config["labels"]["hard"] = {"kind": "hard", "views": {"crop": [0.5, 1], "mix": "none"}}
    config["labels"]["hard"]["views"]["shuffle_patches"] = False
    config["experiments"]["x"] |= {"ipc": [1], "protocols": ["hard"]}
    return config


@functools.cache
def unedited(kind):
    return set_digests(base(kind))


@pytest.mark.parametrize("kind", CHAINS)
def test_a_set_is_made_by_its_chain_of_stages(kind):
    beside = {"teacher"} if kind in ("rded", "edc") else set()
    assert set_digests(base(kind))[kind].keys() == SOURCE | beside | set(CHAINS[kind])


@pytest.mark.parametrize(("kind", "key", "value", "first"), EDITS)
def test_an_edit_changes_the_stage_that_it_shapes_and_what_follows(kind, key, value, first):
    config, before = base(kind), unedited(kind)
    config["methods"][kind] |= {key: value, **({"clip": CLIP} if value == "clip" else {})}
    after = set_digests(config)
    chain = CHAINS[kind]
    # A set that is compressed needs no images of its source.
    recomputed = changed(before[kind], after[kind]) - SOURCE
    assert recomputed == set(chain[chain.index(first) :])
    assert all(after[other] == before[other] for other in before if other != kind)


def test_every_setting_of_a_method_is_in_an_edit():
    for kind in CHAINS:
        edited = {key for one, key, *_ in EDITS if one == kind} | {"fidelity"}
        settings = properties(definition("method"), base(kind)["methods"][kind])
        assert settings.keys() - OTHERS == edited, kind


@pytest.mark.parametrize(("path", "value", "first"), EDITS_OF_DENOISERS)
def test_an_edit_of_a_denoiser_changes_all_that_is_made_with_it(path, value, first):
    config, before = base("d3hr"), unedited("d3hr")
    put(config["denoisers"]["own"], path, value)
    after = set_digests(config)
    for kind in METHODS:
        chain = CHAINS[kind]
        assert changed(before[kind], after[kind]) == set(chain[chain.index(first) :])


@pytest.mark.parametrize("key", ["prompt", "null_prompt"])
def test_prompts_shape_the_stages_that_condition_on_a_class(key):
    config = base("d3hr")
    for method in config["methods"].values():
        method["denoiser"] = "sd"
    before = set_digests(config)
    config["denoisers"]["sd"][key] = "a photo of {}"
    after = set_digests(config)
    for kind, first in (("d3hr", "inversion"), ("ddps", "class_scores"), ("d4m", "decode")):
        chain = CHAINS[kind]
        assert changed(before[kind], after[kind]) == set(chain[chain.index(first) :])
        assert after[kind]["latents"] == before[kind]["latents"]


@pytest.mark.parametrize("value", [32, "whole"])
def test_patches_are_cut_from_latents_that_keep_the_aspect(value):
    config = base("ddps")
    config["methods"]["ddps"]["denoiser"] = "sd"
    before = set_digests(config)["ddps"]
    config["methods"]["ddps"]["patch"] = value
    after = sets_of(build(config))["ddps"]
    square = value == "whole"
    assert changed(before, digests(after)) == (set() if square else set(CHAINS["ddps"][1:]))
    assert ancestor(after, "latents").settings["shape"] == ("square" if square else "aspect")
    assert ancestor(after, "class_scores").settings["patch"] == (0 if square else 32)


def test_features_of_patches_need_no_latents_of_images():
    config = base("ddps")
    config["methods"]["ddps"] |= {"denoiser": "sd", "patch": 32}
    by_patch = sets_of(build(config))["ddps"]
    features = ancestor(by_patch, "patch_features")
    assert features.upstream.keys() == {"images", "scores", "denoiser"}
    assert {k: features.settings[k] for k in ("dift_input", "patch")} == {
        "dift_input": "patch",
        "patch": 32,
    }
    config["methods"]["ddps"]["dift_input"] = "image"
    by_image = sets_of(build(config))["ddps"]
    features = ancestor(by_image, "patch_features")
    assert features.upstream.keys() == {"images", "scores", "denoiser", "latents"}
    assert not {"dift_input", "patch"} & features.settings.keys()
    assert changed(digests(by_patch), digests(by_image)) == set(CHAINS["ddps"][3:])


def test_a_ranking_by_score_needs_scores_alone():
    config, before = base("ddps"), unedited("ddps")["ddps"]
    config["methods"]["ddps"]["ranking"] = "score"
    after = set_digests(config)["ddps"]
    assert changed(before, after) == {"distilled", "clusters", "patch_features"}
    assert "clusters" not in after and "patch_features" not in after


def test_features_of_clip_need_no_denoiser_and_depend_on_its_digest():
    config = base("ddps")
    config["methods"]["ddps"] |= {"features": "clip", "clip": dict(CLIP)}
    distilled = sets_of(build(config))["ddps"]
    features = ancestor(distilled, "patch_features")
    assert features.upstream.keys() == {"images", "scores"}
    assert features.settings == {"features": "clip", "clip": {"sha256": "7" * 64}}
    config["methods"]["ddps"]["clip"]["folder"] = "elsewhere"
    assert set_digests(config)["ddps"] == digests(distilled)
    config["methods"]["ddps"]["clip"]["sha256"] = "8" * 64
    assert changed(digests(distilled), set_digests(config)["ddps"]) == set(CHAINS["ddps"][3:])


def test_selection_by_features_computes_those_of_the_scored_patches():
    config, before = base("rded"), unedited("rded")["rded"]
    for selection in ("herding", "kmeans"):
        config["methods"]["rded"]["selection"] = selection
        distilled = sets_of(build(config))["rded"]
        assert changed(before, digests(distilled)) == {"features", "distilled"}
        assert ancestor(distilled, "features").upstream.keys() == {"images", "teacher", "scores"}


STUDENTS = {
    "rded": ["index", "images", "dataset", "teacher", "patch_scores", "distilled", "labels"],
    "random": ["index", "images", "dataset", "distilled"],
}
# The first stage that changes for students of RDED with soft labels, of random with hard labels.
EDITS_BESIDE = [
    ("sources.digits.revision", 2, "index", "index"),
    ("sources.digits.holdout", 0.2, "index", "index"),
    ("sources.digits.on_bad_image", "skip", "index", "index"),
    ("sources.digits.on_leak", "error", None, None),
    ("sources.digits.license", "cc-by-4.0", None, None),
    ("sources.digits.classes_per_block", 2, None, None),
    ("datasets.three.classes", ["2", "1", "0"], "teacher", "distilled"),
    ("datasets.three.resolution", 12, "teacher", "distilled"),
    ("datasets.three.normalisation", "cifar", "teacher", "students"),
    ("teachers.t.seed", 1, "teacher", None),
    ("teachers.t.epochs", 3, "teacher", None),
    ("teachers.t.min_accuracy", 50, None, None),
    ("teachers.t.pad", 2, "teacher", None),
    ("teachers.t.decay", "all", "teacher", None),
    ("labels.soft.seed", 1, "labels", None),
    ("labels.soft.epochs_stored", 1, "labels", None),
    ("labels.soft.encoding", "top2", "labels", None),
    ("labels.soft.views_stored", False, "labels", None),
    ("labels.soft.epoch_order", "random", "students", None),
    ("labels.soft.fidelity", "paper", "labels", None),
    ("labels.soft.views.flip", 0.1, "labels", None),
    ("labels.soft.views.pad", 2, "labels", None),
    ("labels.soft.views.mix", "none", "labels", None),
    ("labels.soft.views.mix_per", "row", "labels", None),
    ("labels.soft.views.randaugment", {}, "labels", None),
    ("labels.soft.views.jitter", 0.4, "labels", None),
    ("labels.soft.views.lighting", 0.1, "labels", None),
    ("labels.soft.views", {"mix": "none", "siamese": {}}, "labels", None),
    ("labels.hard", {"kind": "hard", "views": {"flip": 0.1}}, None, "students"),
    ("protocols.soft.learning_rate", 0.5, "students", None),
    ("protocols.soft.temperature", 4, "students", None),
    ("protocols.soft.epochs", 1, "students", None),
    ("protocols.soft.loss", "mse_ce", "students", None),
    ("protocols.soft.fidelity", "paper", "students", None),
    ("protocols.soft.test_crop", "center_square", "students", None),
    ("protocols.hard.precision", "bfloat16", None, "students"),
    ("protocols.soft.report", "best", None, None),
    ("protocols.soft.decay", "all", "students", None),
    ("protocols.soft.tests", {"every": 1}, "students", None),
    ("students.s.width", 6, "students", "students"),
    ("students.s.arch", "convnet2", "students", "students"),
    ("experiments.x.full_data", ["matched", 2], None, None),
    ("experiments.x.hard_protocol", "hard", None, None),
]


def student_digests(config):
    """Return {method: {stage: digests}} of RDED with soft labels and random with hard ones."""
    cells = build(config).experiments["x"]
    cells = {(cell["method"], cell["protocol"]): cell["artifact"] for cell in cells}
    return {name: digests(cells[name, p]) for name, p in (("rded", "soft"), ("random", "hard"))}


@pytest.mark.parametrize(("path", "value", "of_rded", "of_random"), EDITS_BESIDE)
def test_an_edit_beside_the_methods_changes_what_depends_on_it(
    tiny, path, value, of_rded, of_random
):
    before = student_digests(tiny)
    put(tiny, path, value)
    after = student_digests(tiny)
    for method, first in (("rded", of_rded), ("random", of_random)):
        chain = [*STUDENTS[method], "students"]
        expected = set(chain[chain.index(first) :]) if first else set()
        assert changed(before[method], after[method]) == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("datasets.three.normalisation", "imagenet"),
        ("teachers.t.pad", 0),
        ("teachers.t.decay", "dimension"),
        ("labels.soft.views.pad", 0),
        ("labels.soft.views_stored", True),
        ("labels.soft.epoch_order", "stored"),
        ("protocols.soft.tests", {"after": 0.8}),
    ],
)
def test_a_default_that_is_written_changes_no_address(tiny, path, value):
    before = student_digests(tiny)
    put(tiny, path, value)
    assert student_digests(tiny) == before


def test_a_normalisation_is_its_numbers(tiny):
    def digests_with(normalisation):
        tiny["datasets"]["three"]["normalisation"] = normalisation
        return student_digests(tiny)

    cifar = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert digests_with(cifar) == digests_with("cifar") != digests_with("cifar100")
    assert digests_with(imagenet) == digests_with("imagenet") != digests_with("cifar")


def test_nesterovs_momentum_is_the_default_of_sgd(tiny):
    tiny["teachers"]["t"]["optimizer"] = "sgd"
    before = student_digests(tiny)
    tiny["teachers"]["t"]["nesterov"] = True
    assert student_digests(tiny) == before
    tiny["teachers"]["t"]["nesterov"] = False
    chain = [*STUDENTS["rded"], "students"]
    assert changed(before["rded"], student_digests(tiny)["rded"]) == set(chain[3:])


def test_the_address_of_weights_depends_on_their_digest_not_their_folder():
    config = base("d3hr")
    for method in config["methods"].values():
        method["denoiser"] = "dit"
    before = set_digests(config)
    put(config, "denoisers.dit.pretrained.folder", "elsewhere")
    assert set_digests(config) == before
    denoiser = ancestor(sets_of(build(config))["d3hr"], "denoiser")
    assert denoiser.settings["weights"] == {"sha256": "5" * 64}
    assert not denoiser.upstream
    put(config, "denoisers.dit.pretrained.sha256", "6" * 64)
    after = set_digests(config)
    assert all(changed(before[kind], after[kind]) == set(CHAINS[kind]) for kind in METHODS)


@pytest.mark.parametrize(
    ("denoiser", "path", "value"),
    [
        ("sd", "pretrained.revision", "e" * 40),
        ("dit", "class_labels.1", 8),
        ("sd", "names", {"1": "one"}),
    ],
)
def test_a_commit_and_the_classes_of_a_denoiser_are_in_its_address(denoiser, path, value):
    config = base("d4m")
    config["methods"]["d4m"]["denoiser"] = denoiser
    before = set_digests(config)["d4m"]
    put(config["denoisers"][denoiser], path, value)
    assert changed(before, set_digests(config)["d4m"]) == set(CHAINS["d4m"])


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [("x", "ipc", [1, 2, 5]), ("x", "seeds", [0, 1, 2]), ("x", "distill_seeds", [0, 1])],
)
def test_an_added_value_keeps_every_address(tiny, section, key, values):
    before = places(build(tiny))
    tiny["experiments"][section][key] = values
    after = places(build(tiny))
    assert all(before[stage] <= after[stage] for stage in before)
    assert (after == before) == (key == "seeds")


def test_fewer_classes_keep_what_is_stored_per_class(tiny):
    tiny["teachers"]["t"]["dataset"] = "three"
    before = build(tiny)
    tiny["datasets"]["two"] = {**tiny["datasets"]["three"], "classes": ["2", "0"]}
    tiny["experiments"]["x"]["dataset"] = "two"
    after = build(tiny)
    for stage in ("images", "patch_scores"):
        assert after.families[stage].keys() == before.families[stage].keys()
    (scores,) = after.families["patch_scores"].values()
    assert list(scores.members) == ["2", "0"]
    assert after.artifacts["teacher"].keys() == before.artifacts["teacher"].keys()
    assert after.artifacts["distilled"].keys().isdisjoint(before.artifacts["distilled"])


@pytest.mark.parametrize("kind", ["random", "herding", "kmeans"])
def test_an_encoding_shapes_the_set_of_real_images_alone(kind):
    def digests_with(**settings):
        config = base("rded")
        space = {} if kind == "random" else {"feature_space": "pixels"}
        config["methods"]["real"] = {"kind": kind, **space, **settings}
        config["experiments"]["x"]["methods"] = ["real"]
        return set_digests(config)["real"]

    before = digests_with()
    # PNG, the default, is left out of addresses.
    assert digests_with(encoding="png") == before
    assert changed(before, digests_with(encoding="webp30")) == {"distilled"}
    assert digests_with(encoding="webp30") != digests_with(encoding="webp31")
