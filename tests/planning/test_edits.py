"""Which stages an edit of a method or a denoiser gives new addresses, and what methods share."""

import copy
import json

import pytest
from diffused import FOLDER, HUB, METHODS, with_denoisers
from stillhouse.config.load import complete
from stillhouse.config.schema import definition
from stillhouse.methods.registry import stages
from stillhouse.planning import plan
from stillhouse.planning.inputs import weight_folders

# Stages in the order in which a set of each method is made.
CHAINS = {
    "d3hr": ["denoiser", "latents", "inversion", "samples", "decode", "distilled"],
    "ddps": ["denoiser", "latents", "class_scores", "patch_features", "clusters", "distilled"],
    "d4m": ["denoiser", "latents", "prototypes", "decode", "distilled"],
}
CLIP = {"folder": "weights/clip", "sha256": "7" * 64}


@pytest.fixture
def config(tiny):
    return with_denoisers(tiny)


def put(config, path, value):
    *way, last = path.split(".")
    for step in way:
        config = config[step]
    config[last] = value


def lineage(artifact):
    """Yield an artifact and all that it is made from."""
    yield artifact
    for _, part in artifact.parts():
        yield from lineage(part)


def made_from(artifact):
    """Return {stage: digests} of an artifact and of all that it is made from.

    The manifest of a dataset has no settings of its own beside the classes.
    """
    digests = {}
    for part in lineage(artifact):
        if part.stage.name != "dataset":
            digests.setdefault(part.stage.name, set()).add(part.digest)
    return digests


def build(config):
    return plan.build(complete(config, "tiny.yaml"))


def sets_of(wanted):
    """Return {method: its distilled set of the smallest IPC and seed} of a plan."""
    sets = {}
    for artifact in wanted.artifacts["distilled"].values():
        sets.setdefault(artifact.slug, artifact)
    return sets


def ancestor(artifact, stage):
    return artifact.ancestor(stages()[stage])


def lines(config):
    """Return {method: {stage: digests}} of a config, for all that its sets are made from."""
    wanted = build(config)
    return {method: made_from(one) for method, one in sets_of(wanted).items()}


def touched(before, after):
    """Return the stages whose artifacts are others."""
    return {
        stage for stage in before.keys() | after.keys() if before.get(stage) != after.get(stage)
    }


def places(config, stage):
    return set(build(config).families[stage])


@pytest.mark.parametrize("kind", METHODS)
def test_a_set_is_made_of_its_chain(config, kind):
    assert set(lines(config)[kind]) == {"index", "images", *CHAINS[kind]}


# Setting of a method → its value, the first stage that is another.
EDITS = [
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
    ("d4m", "encoding", "jpeg", "distilled"),
    ("d4m", "fidelity", "paper", "prototypes"),
]


@pytest.mark.parametrize(("kind", "key", "value", "first"), EDITS)
def test_an_edit_of_a_method_goes_to_the_stage_that_it_shapes(config, kind, key, value, first):
    before = lines(config)
    config["methods"][kind][key] = value
    after = lines(config)
    chain = CHAINS[kind]
    assert touched(before[kind], after[kind]) == set(chain[chain.index(first) :])
    assert all(after[other] == before[other] for other in METHODS if other != kind)


def test_every_setting_of_a_method_is_in_an_edit():
    for kind in METHODS:
        settings = {key for one, key, *_ in EDITS if one == kind}
        # Of these, some need more than an edit, or another denoiser: see below.
        others = {"denoiser", "patch", "ranking", "features", "clip"}
        assert definition(f"method_{kind}")["properties"].keys() - others == settings - {"fidelity"}


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("train.network.steps", 5, "denoiser"),
        ("train.network.ema", 0.95, "denoiser"),
        ("train.autoencoder.kl_weight", 0.5, "denoiser"),
        ("seed", 1, "denoiser"),
        ("resolution", 12, "denoiser"),
        ("precision", "bfloat16", "latents"),
    ],
)
def test_an_edit_of_a_denoiser_touches_all_that_is_made_with_it(config, path, value, first):
    before = lines(config)
    put(config["denoisers"]["own"], path, value)
    after = lines(config)
    for kind, chain in CHAINS.items():
        assert touched(before[kind], after[kind]) == set(chain[chain.index(first) :])


@pytest.mark.parametrize("key", ["prompt", "null_prompt"])
def test_prompts_shape_what_tells_a_denoiser_the_class(config, key):
    for method in config["methods"].values():
        method["denoiser"] = "sd"
    before = lines(config)
    config["denoisers"]["sd"][key] = "a photo of {}"
    after = lines(config)
    for kind, first in (("d3hr", "inversion"), ("ddps", "class_scores"), ("d4m", "decode")):
        chain = CHAINS[kind]
        assert touched(before[kind], after[kind]) == set(chain[chain.index(first) :])
        assert after[kind]["latents"] == before[kind]["latents"]


def test_names_of_classes_belong_to_the_denoiser_and_stages_have_its_prompts(config):
    config["methods"]["d3hr"]["denoiser"] = "sd"
    before = sets_of(build(config))["d3hr"]
    denoiser, inversion = ancestor(before, "denoiser"), ancestor(before, "inversion")
    # Of all classes of the source, so that they do not depend on the dataset.
    assert denoiser.settings["names"] == {c: c for c in "0123456789"}
    assert inversion.settings["prompts"] == ["An image of {}", "An image of ."]
    assert "prompts" not in ancestor(before, "latents").settings
    config["denoisers"]["sd"]["names"] = {"1": "one"}
    after = ancestor(sets_of(build(config))["d3hr"], "denoiser")
    assert after.settings["names"] == {**denoiser.settings["names"], "1": "one"}
    assert after.digest != denoiser.digest


def test_a_denoiser_of_its_own_has_no_prompts(config):
    for method in sets_of(build(config)).values():
        assert '"prompts"' not in json.dumps(method.spec())


def test_methods_share_a_denoiser_and_its_latents(config):
    found = lines(config)
    assert len({str(found[kind]["latents"]) for kind in METHODS}) == 1
    wanted = build(config)
    assert len(wanted.artifacts["denoiser"]) == len(wanted.families["latents"]) == 1


def variants(config, *changes):
    """Put variants of D3HR into a config, in its methods' place."""
    config["methods"] = {
        f"v{i}": {"kind": "d3hr", "denoiser": "own", **change} for i, change in enumerate(changes)
    }
    config["experiments"]["x"]["methods"] = list(config["methods"])
    return config


@pytest.mark.parametrize(
    "change",
    [
        {"candidates": 7},
        {"loss_weights": {"skewness": 3}},
        {"variance": 0.5},
        {"sampler": "exact"},
        {"sampling_start": "aligned"},
        {"encoding": "jpeg"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_variants_of_d3hr_share_an_inversion(config, change):
    variants(config, {}, change)
    assert len(places(config, "inversion")) == 1
    assert len(build(config).artifacts["distilled"]) == 4  # two methods, two IPCs


def test_methods_that_stop_at_different_steps_share_an_inversion(config):
    kept = {"snapshots": [10, 20, 31]}
    turned = {"inversion_steps": 10, "snapshots": [31, 10, 20]}
    variants(config, kept, {**kept, "inversion_steps": 20}, turned)
    # In the path, not in the digest alone: else it would be made three times.
    assert len(places(config, "inversion")) == 1
    assert len(places(config, "samples")) == len(places(config, "decode")) == 3 * 2
    variants(config, {}, {"inversion_steps": 20})
    assert len(places(config, "inversion")) == 2


def test_one_snapshot_may_be_left_unsaid(config):
    variants(config, {}, {"snapshots": [31]})
    assert len(places(config, "inversion")) == 1
    assert len(places(config, "decode")) == 2  # IPCs


def test_snapshots_have_no_order(config):
    variants(config, {"snapshots": [10, 31]}, {"snapshots": [31, 10]})
    assert len(places(config, "inversion")) == 1


def test_how_an_inversion_starts_shapes_no_diffusion(config):
    noised = {"noising": "forward"}
    variants(config, noised, {**noised, "fidelity": "paper"})
    assert len(places(config, "inversion")) == 1


@pytest.mark.parametrize(
    ("kind", "switches"),
    [
        (
            "d3hr",
            {
                **{"inversion_start": "zero", "candidates": 100_000_000, "terms": "norm"},
                **{"std": "own", "skewness": "latent", "sampling_start": "next"},
                "loss_weights": {"skewness": 0.1},
            },
        ),
        ("d4m", {"fit": "partial"}),
        ("ddps", {}),
    ],
)
def test_paper_with_the_switches_of_the_code_is_the_code(config, kind, switches):
    before = lines(config)
    config["methods"][kind] |= {"fidelity": "paper", **switches}
    assert lines(config) == before


def test_ipc_and_seed_are_in_no_address_above_the_samples(config):
    config["experiments"]["x"] |= {"ipc": [1, 2, 5], "distill_seeds": [0, 1]}
    wanted = build(config)
    count = {stage: len(wanted.families[stage]) for stage in wanted.families}
    assert count["latents"] == count["inversion"] == 1
    # A seed draws images, noise, centres; an IPC does not.
    assert count["class_scores"] == count["patch_features"] == count["clusters"] == 2
    assert count["samples"] == count["prototypes"] == 3 * 2
    assert count["decode"] == 2 * 3 * 2
    (inversion,) = (family.artifact for family in wanted.families["inversion"].values())
    assert '"ipc"' not in json.dumps(inversion.spec())
    # The denoiser's own seed is a setting, and no key.
    assert not any(part.keys for part in lineage(inversion))
    assert ancestor(inversion, "denoiser").settings["seed"] == 0


def test_the_folder_of_weights_is_in_no_address_and_their_digest_is(config):
    for method in config["methods"].values():
        method["denoiser"] = "dit"
    before = lines(config)
    config["denoisers"]["dit"]["pretrained"]["folder"] = "elsewhere"
    assert lines(config) == before
    wanted = ancestor(sets_of(build(config))["d3hr"], "denoiser")
    assert wanted.settings["weights"] == {"sha256": "5" * 64}
    assert not wanted.upstream
    config["denoisers"]["dit"]["pretrained"]["sha256"] = "6" * 64
    for kind, chain in CHAINS.items():
        assert touched(before[kind], lines(config)[kind]) == set(chain)


def test_a_hub_is_known_by_its_commit(config):
    config["methods"]["d4m"]["denoiser"] = "sd"
    before = lines(config)["d4m"]
    wanted = ancestor(sets_of(build(config))["d4m"], "denoiser")
    assert wanted.settings["weights"] == HUB
    config["denoisers"]["sd"]["pretrained"]["revision"] = "e" * 40
    assert touched(before, lines(config)["d4m"]) == set(CHAINS["d4m"])


def test_labels_of_a_denoiser_are_in_its_address(config):
    config["methods"]["d4m"]["denoiser"] = "dit"
    before = lines(config)["d4m"]
    config["denoisers"]["dit"]["class_labels"]["1"] = 8
    assert touched(before, lines(config)["d4m"]) == set(CHAINS["d4m"])


def test_other_classes_of_the_source_share_all_that_is_kept_per_class(config):
    def addresses(config):
        wanted = build(config)
        kept = {s: set(f) for s, f in wanted.families.items() if stages()[s].member == "class_id"}
        return kept, wanted

    config["denoisers"]["dit"]["class_labels"] = {c: int(c) for c in "0123456789"}
    for denoiser in ("own", "dit", "sd"):
        for method in config["methods"].values():
            method["denoiser"] = denoiser
        config["datasets"]["three"]["classes"] = ["0", "1", "2"]
        before, first = addresses(config)
        config["datasets"]["three"]["classes"] = ["7", "2"]
        after, second = addresses(config)
        assert after == before
        assert first.artifacts["denoiser"].keys() == second.artifacts["denoiser"].keys()
        assert set(before) >= {"latents", "inversion", "samples", "class_scores", "prototypes"}
        (family,) = second.families["latents"].values()
        assert list(family.members) == ["7", "2"]
        assert second.artifacts["distilled"].keys().isdisjoint(first.artifacts["distilled"])


def test_a_trained_denoiser_wants_all_classes_of_its_source(config):
    config["experiments"]["x"]["protocols"] = ["hard"]
    wanted = build(config)
    (images,) = wanted.families["images"].values()
    assert set(images.members) == set("0123456789")
    (denoiser,) = wanted.artifacts["denoiser"].values()
    assert denoiser.settings["classes"] == list("0123456789")
    for method in config["methods"].values():
        method["denoiser"] = "dit"
    (images,) = build(config).families["images"].values()
    assert list(images.members) == ["0", "1", "2"]


def test_the_name_of_a_denoiser_is_nothing(config):
    before = lines(config)
    config["denoisers"]["renamed"] = config["denoisers"].pop("own")
    for method in config["methods"].values():
        method["denoiser"] = "renamed"
    assert lines(config) == before


def test_denoisers_that_no_experiment_wants_are_not_made(config):
    assert [d.slug for d in build(config).artifacts["denoiser"].values()] == ["digits-8px-dit"]


def test_methods_without_a_denoiser_stay_as_they_were(tiny):
    before = build(tiny)
    both = with_denoisers(copy.deepcopy(tiny))
    both["methods"] |= tiny["methods"]
    both["experiments"]["x"]["methods"] += tiny["experiments"]["x"]["methods"]
    after = build(both)
    for stage, there in before.artifacts.items():
        assert there.keys() <= after.artifacts[stage].keys()
    for stage, there in before.families.items():
        assert there.keys() <= after.families[stage].keys()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ddps", {"ranking": "score"}),
        ("ddps", {"features": "clip", "clip": CLIP}),
        ("ddps", {"variant": "single"}),
        ("d4m", {"fit": "full"}),
        ("d3hr", {"noising": "forward"}),
        ("d3hr", {"loss_weights": {"mean": 0.5}}),
    ],
)
def test_an_override_is_a_method_with_these_settings(config, kind, change):
    config["experiments"]["x"]["methods"] = [{kind: change}]
    overridden = lines(config)
    config["methods"][kind] |= change
    config["experiments"]["x"]["methods"] = [kind]
    assert lines(config) == overridden


def test_patches_want_latents_of_whole_images(config):
    config["methods"]["ddps"]["denoiser"] = "sd"
    before = lines(config)["ddps"]
    config["methods"]["ddps"]["patch"] = 32
    after = sets_of(build(config))["ddps"]
    assert touched(before, made_from(after)) == set(CHAINS["ddps"][1:])
    assert ancestor(after, "latents").settings["shape"] == "aspect"
    config["methods"]["ddps"]["patch"] = "whole"
    whole = sets_of(build(config))["ddps"]
    assert ancestor(whole, "latents").settings["shape"] == "square"
    assert ancestor(whole, "class_scores").settings["patch"] == 0
    assert made_from(whole) == before


def test_a_ranking_by_score_is_made_from_scores_alone(config):
    before = lines(config)["ddps"]
    config["methods"]["ddps"]["ranking"] = "score"
    after = lines(config)["ddps"]
    assert touched(before, after) == {"distilled", "clusters", "patch_features"}
    assert "clusters" not in after and "patch_features" not in after


def test_features_of_clip_want_no_denoiser_and_know_clip_by_its_digest(config):
    before = lines(config)["ddps"]
    config["methods"]["ddps"] |= {"features": "clip", "clip": dict(CLIP)}
    one = sets_of(build(config))["ddps"]
    assert touched(before, made_from(one)) == {"patch_features", "clusters", "distilled"}
    features = ancestor(one, "patch_features")
    assert features.upstream.keys() == {"images", "scores"}
    assert features.settings == {"features": "clip", "clip": {"sha256": "7" * 64}}
    found = made_from(one)
    config["methods"]["ddps"]["clip"]["folder"] = "elsewhere"
    assert lines(config)["ddps"] == found
    config["methods"]["ddps"]["clip"]["sha256"] = "8" * 64
    assert touched(found, lines(config)["ddps"]) == {"patch_features", "clusters", "distilled"}


def test_jobs_are_told_where_folders_lie_by_their_digest(config):
    config["methods"]["ddps"] |= {"features": "clip", "clip": CLIP}
    other = {"folder": "weights/other", "sha256": "9" * 64}
    config["experiments"]["x"]["methods"] = ["d3hr", {"ddps": {"clip": other}}]
    assert weight_folders(complete(config, "x")) == {
        FOLDER["sha256"]: FOLDER["folder"],
        CLIP["sha256"]: CLIP["folder"],
        other["sha256"]: other["folder"],
    }
    hub = {**HUB, "hub": "someone/dit"}
    config["denoisers"]["dit"]["pretrained"] = hub
    config["methods"]["ddps"]["clip"] = config["experiments"]["x"]["methods"][1]["ddps"]["clip"] = (
        HUB
    )
    assert weight_folders(complete(config, "x")) == {}


# Images synthesised for observers.

SYNTHESES = ("sre2l", "gvbsm", "edc")
STATISTICS = {"index", "images", "teacher", "statistics"}


@pytest.fixture
def observed(tiny):
    """Return a config of the methods that synthesise, with observers, and hard labels."""
    for seed, name in enumerate("abc"):
        tiny["teachers"][name] = {"arch": "convnet1", "width": 4, "norm": "batch", "seed": seed}
    tiny["methods"] |= {kind: {"kind": kind, "observers": ["a", "b"]} for kind in SYNTHESES}
    tiny["experiments"]["x"] |= {"methods": list(SYNTHESES), "protocols": ["hard"]}
    return tiny


def test_a_synthesis_is_made_for_its_observers(observed):
    found = lines(observed)
    assert set(found["sre2l"]) == STATISTICS - {"statistics"} | {"synthesis", "distilled"}
    assert set(found["gvbsm"]) == set(found["edc"]) == STATISTICS | {"synthesis", "distilled"}
    assert {kind: len(found[kind]["teacher"]) for kind in SYNTHESES} == dict.fromkeys(SYNTHESES, 2)
    sets = sets_of(build(observed))
    upstream = {kind: list(sets[kind].upstream["synthesis"].upstream) for kind in SYNTHESES}
    assert upstream == {
        "sre2l": ["teachers"],
        "gvbsm": ["teachers", "statistics"],
        "edc": ["teachers", "statistics", "images"],
    }
    for kind in ("gvbsm", "edc"):
        synthesis = sets[kind].upstream["synthesis"].upstream
        assert len(synthesis["teachers"]) == 2
        for statistics, teacher in zip(synthesis["statistics"], synthesis["teachers"], strict=True):
            assert statistics.upstream["teacher"] is teacher


def test_statistics_are_shared_by_methods_ipcs_and_seeds(observed):
    observed["experiments"]["x"] |= {"ipc": [1, 2, 5], "distill_seeds": [0, 1]}
    wanted = build(observed)
    assert len(wanted.artifacts["statistics"]) == len(wanted.artifacts["teacher"]) == 2
    assert not any(one.keys for one in wanted.artifacts["statistics"].values())
    assert len(wanted.families["synthesis"]) == 3 * 3 * 2
    observed["methods"]["edc"]["observers"] = ["b"]
    assert build(observed).artifacts["statistics"].keys() == wanted.artifacts["statistics"].keys()
    observed["methods"]["edc"]["tile"] = 2
    assert len(build(observed).artifacts["statistics"]) == 3


def test_an_observer_more_is_a_teacher_and_its_statistics_more(observed):
    before = build(observed)
    observed["methods"]["edc"]["observers"] = ["a", "b", "c"]
    after = build(observed)
    for stage in ("teacher", "statistics"):
        assert after.artifacts[stage].keys() > before.artifacts[stage].keys()
        assert len(after.artifacts[stage]) == 3
    both = after.families["synthesis"].keys() & before.families["synthesis"].keys()
    # Three methods at two IPCs, of which one method is another.
    assert len(both) == 4 and len(after.families["synthesis"]) == 6
    digests = [lines(observed)["edc"]["synthesis"]]
    observed["methods"]["edc"]["observers"] = ["c", "b", "a"]
    assert lines(observed)["edc"]["synthesis"] not in digests


@pytest.mark.parametrize(
    ("kind", "change", "collected"),
    [
        ("sre2l", {}, False),
        ("sre2l", {"alpha": 0.9}, True),
        ("sre2l", {"loss_weights": {"convolution": 0.1}}, True),
        ("gvbsm", {"loss_weights": {"convolution": 0}}, False),
        ("edc", {"loss_weights": {"convolution": 0}}, True),
        ("edc", {"loss_weights": {"convolution": 0}, "alpha": 1}, False),
        ("edc", {"loss_weights": {"convolution": 0, "batchnorm": 0}}, False),
        ("edc", {"alpha": 1}, True),
    ],
)
def test_statistics_are_collected_for_whom_batch_norms_do_not_suffice(
    observed, kind, change, collected
):
    observed["methods"][kind] |= change
    assert ("statistics" in lines(observed)[kind]) is collected


def test_a_synthesis_that_starts_from_a_set_has_it_upstream(observed):
    observed["methods"]["edc"]["initial"] = "rded"
    observed["experiments"]["x"] |= {"methods": ["edc", "rded"], "distill_seeds": [0, 3]}
    wanted = build(observed)
    sets = wanted.artifacts["distilled"].values()
    of_rded = {tuple(one.keys.values()): one for one in sets if one.slug == "rded"}
    assert len(of_rded) == 4
    for one in sets:
        if one.slug == "edc":
            upstream = one.upstream["synthesis"].upstream
            assert upstream["initial"].place == of_rded[tuple(one.keys.values())].place
            assert "images" not in upstream
    # That set is wanted, whether or not the experiment shows it; its method's name is nothing.
    observed["experiments"]["x"]["methods"] = ["edc"]
    before = lines(observed)["edc"]
    assert len(build(observed).artifacts["distilled"]) == 8
    observed["methods"]["started"] = observed["methods"].pop("rded")
    observed["methods"]["edc"]["initial"] = "started"
    assert lines(observed)["edc"] == before
    observed["methods"]["started"]["rounding"] = "nearest"
    assert touched(before, lines(observed)["edc"]) == {"synthesis", "distilled"}


def test_a_synthesis_may_start_from_another(observed):
    observed["methods"]["gvbsm"]["initial"] = "edc"
    observed["methods"]["edc"]["initial"] = "random"
    observed["experiments"]["x"]["methods"] = ["gvbsm"]
    found = sets_of(build(observed))
    upstream = found["gvbsm"].upstream["synthesis"].upstream
    assert upstream["initial"].settings["kind"] == "edc"
    start = upstream["initial"].upstream["synthesis"].upstream["initial"]
    assert start.settings["kind"] == "random"


@pytest.mark.parametrize(
    ("kind", "batch_size", "counts"),
    [
        ("edc", 2, {1: 2, 5: 8}),
        ("edc", 100, {1: 1, 5: 1}),
        ("edc", "all", {1: 1, 5: 1}),
        ("sre2l", 2, {1: 2, 5: 10}),
        ("sre2l", 100, {1: 1, 5: 5}),
        ("sre2l", "all", {1: 1, 5: 5}),
    ],
)
def test_a_set_is_synthesised_in_batches(observed, kind, batch_size, counts):
    observed["methods"][kind]["batch_size"] = batch_size
    observed["experiments"]["x"] |= {"methods": [kind], "ipc": [1, 5]}
    for family in build(observed).families["synthesis"].values():
        ipc = family.artifact.keys["ipc"]
        assert list(family.members) == list(range(counts[ipc]))
        assert family.artifact.n_members == counts[ipc]


# Setting of EDC (its code) → its value, the first stage that is another.
SYNTHESIS_EDITS = [
    ("initial", "noise", "synthesis"),
    ("initial", "random", "synthesis"),
    ("initial_draw", "distinct", "synthesis"),
    ("order", "by_copy", "synthesis"),
    ("batch_size", 2, "synthesis"),
    ("iterations", 7, "synthesis"),
    ("learning_rate", 0.5, "synthesis"),
    ("schedule", "constant", "synthesis"),
    ("crop", [0.3, 1.0], "synthesis"),
    ("flip", 0.0, "synthesis"),
    ("shift", 2, "synthesis"),
    ("loss_weights", {"cross_entropy": 2}, "synthesis"),
    ("loss_weights", {"batchnorm": 0.1}, "synthesis"),
    ("loss_weights", {"convolution": 0.1}, "synthesis"),
    ("loss_weights", {"first_layer": 1}, "synthesis"),
    ("loss_weights", {"densification": 1}, "synthesis"),
    ("convolution_dropout", 0.4, "synthesis"),
    ("tile", 2, "statistics"),
    ("alpha", 0.25, "synthesis"),
    ("class_terms", "classes", "synthesis"),
    ("class_variance", "total", "synthesis"),
    ("class_layers", "convolution", "synthesis"),
    ("tile_statistics", "correct", "synthesis"),
    ("momentum", 0.5, "synthesis"),
    ("momentum_start", "first", "synthesis"),
    ("flatness", {"kind": "logits"}, "synthesis"),
    ("flatness", {"kind": "statistics"}, "synthesis"),
    ("flatness", {"kind": "sam"}, "synthesis"),
    ("observer_order", "restart", "synthesis"),
    ("statistics", {"crop": [0.5, 1.0]}, "statistics"),
    ("statistics", {"pad": 1}, "statistics"),
    ("statistics", {"flip": 0.0}, "statistics"),
    ("statistics", {"seed": 1}, "statistics"),
    ("precision", "bfloat16", "synthesis"),
    ("encoding", "jpeg", "distilled"),
    ("fidelity", "paper", "synthesis"),
]


@pytest.mark.parametrize(("key", "value", "first"), SYNTHESIS_EDITS)
def test_an_edit_of_a_synthesis_goes_to_the_stage_that_it_shapes(observed, key, value, first):
    before = lines(observed)
    observed["methods"]["edc"][key] = value
    after = lines(observed)
    chain = ["statistics", "synthesis", "distilled"]
    assert touched(before["edc"], after["edc"]) == set(chain[chain.index(first) :])
    assert all(after[kind] == before[kind] for kind in ("sre2l", "gvbsm"))


def test_every_setting_of_a_synthesis_is_in_an_edit():
    settings = {key for key, *_ in SYNTHESIS_EDITS} | {"observers"}
    assert definition("method_synthesis")["properties"].keys() == settings - {"fidelity"}


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ({"loss_weights": {"batchnorm": 1}}, {"loss_weights": {"batchnorm": 1.0}}),
        ({"flatness": {"kind": "logits"}}, {"flatness": {"kind": "logits", "temperature": 4}}),
    ],
)
def test_what_nothing_uses_is_in_no_address(observed, given, other):
    usual = observed["methods"]["edc"]
    observed["methods"]["edc"] = {**usual, **given}
    before = lines(observed)["edc"]
    observed["methods"]["edc"] = {**usual, **other}
    assert lines(observed)["edc"] == before


def test_one_synthesis_has_one_digest_whatever_its_kind(observed):
    said = {"initial": "real", "order": "by_class", "iterations": 9, "learning_rate": 0.1}
    said |= {"crop": [0.5, 1.0], "alpha": 0.5, "momentum": 0.5}
    said |= {"loss_weights": {"convolution": 0.1, "densification": 0}}
    for kind in SYNTHESES:
        observed["methods"][kind] |= said
    found = lines(observed)
    assert found["sre2l"]["synthesis"] == found["gvbsm"]["synthesis"] == found["edc"]["synthesis"]
