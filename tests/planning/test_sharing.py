"""What methods, datasets, experiments, images per class and seeds share."""

import copy
import json

import pytest
from diffused import METHODS, with_denoisers
from stillhouse.methods.registry import stages

from tests.planning.configs import (
    SYNTHESES,
    ancestor,
    build,
    changed,
    digests,
    lineage,
    places,
    put,
    set_digests,
    sets_of,
    with_observers,
)


@pytest.fixture
def diffused(tiny):
    return with_denoisers(tiny)


@pytest.fixture
def observed(tiny):
    return with_observers(tiny)


def test_variants_of_rded_share_the_scores(tiny):
    before = places(build(tiny))
    tiny["methods"]["lossless"] = {**tiny["methods"]["rded"], "encoding": "png"}
    tiny["experiments"]["x"]["methods"].append("lossless")
    after = places(build(tiny))
    assert after["patch_scores"] == before["patch_scores"]
    assert len(after["distilled"]) == 6


def test_experiments_share_what_they_agree_on(tiny):
    before = places(build(tiny))
    tiny["experiments"]["again"] = {**tiny["experiments"]["x"], "seeds": [1, 5]}
    wanted = build(tiny)
    assert places(wanted) == before
    seeds = {tuple(family.members) for family in wanted.families["students"].values()}
    assert seeds == {(1, 5, 0)}


def test_names_are_in_no_address(diffused):
    diffused["methods"]["rded"] = {"kind": "rded", "teacher": "t", "images_per_class": 20}
    diffused["experiments"]["x"]["methods"] = ["rded", "d4m"]
    before = places(build(diffused))
    for section, name in (
        *(("teachers", "t"), ("denoisers", "own"), ("labels", "soft")),
        *(("protocols", "soft"), ("students", "s")),
    ):
        diffused[section]["renamed"] = diffused[section].pop(name)
    diffused["methods"]["rded"]["teacher"] = "renamed"
    for kind in METHODS:
        diffused["methods"][kind]["denoiser"] = "renamed"
    diffused["labels"]["renamed"]["teachers"] = ["renamed"]
    diffused["protocols"]["renamed"]["labels"] = "renamed"
    diffused["experiments"]["x"] |= {"students": ["renamed"], "protocols": ["renamed", "hard"]}
    assert places(build(diffused)) == before


def test_methods_with_a_denoiser_share_it_and_its_latents(diffused):
    wanted = build(diffused)
    assert len(wanted.artifacts["denoiser"]) == len(wanted.families["latents"]) == 1


def test_methods_beside_those_with_a_denoiser_keep_their_addresses(tiny):
    before = places(build(tiny))
    both = with_denoisers(copy.deepcopy(tiny))
    both["methods"] |= tiny["methods"]
    both["experiments"]["x"]["methods"] += tiny["experiments"]["x"]["methods"]
    after = places(build(both))
    assert all(before[stage] <= after[stage] for stage in before)


def variants(config, *changes):
    """Put variants of D3HR into a config, in its methods' place; return its plan."""
    config["methods"] = {
        f"v{i}": {"kind": "d3hr", "denoiser": "own", **change} for i, change in enumerate(changes)
    }
    config["experiments"]["x"]["methods"] = list(config["methods"])
    return build(config)


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
def test_variants_of_d3hr_share_an_inversion(diffused, change):
    wanted = variants(diffused, {}, change)
    assert len(wanted.families["inversion"]) == 1
    assert len(wanted.artifacts["distilled"]) == 4  # two methods, two IPCs


def test_variants_that_start_at_different_snapshots_share_an_inversion(diffused):
    kept = {"snapshots": [10, 20, 31]}
    turned = {"inversion_steps": 10, "snapshots": [31, 10, 20]}
    wanted = variants(diffused, kept, {**kept, "inversion_steps": 20}, turned)
    assert len(wanted.families["inversion"]) == 1
    assert len(wanted.families["samples"]) == len(wanted.families["decode"]) == 3 * 2
    assert len(variants(diffused, {}, {"inversion_steps": 20}).families["inversion"]) == 2
    # The default snapshot, written out or not.
    wanted = variants(diffused, {}, {"snapshots": [31]})
    assert len(wanted.families["inversion"]) == 1
    assert len(wanted.families["decode"]) == 2  # IPCs


def test_the_start_of_an_inversion_shapes_no_forward_noising(diffused):
    noised = {"noising": "forward"}
    wanted = variants(diffused, noised, {**noised, "fidelity": "paper"})
    assert len(wanted.families["inversion"]) == 1


def test_ipc_and_seed_are_in_no_address_above_the_samples(diffused):
    diffused["experiments"]["x"] |= {"ipc": [1, 2, 5], "distill_seeds": [0, 1]}
    wanted = build(diffused)
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


@pytest.mark.parametrize("denoiser", ["own", "dit", "sd"])
def test_other_classes_of_the_source_share_all_that_is_stored_per_class(diffused, denoiser):
    def per_class(wanted):
        return {s: set(f) for s, f in wanted.families.items() if stages()[s].member == "class_id"}

    diffused["denoisers"]["dit"]["class_labels"] = {c: int(c) for c in "0123456789"}
    for method in diffused["methods"].values():
        method["denoiser"] = denoiser
    first = build(diffused)
    diffused["datasets"]["three"]["classes"] = ["7", "2"]
    second = build(diffused)
    assert per_class(second) == per_class(first)
    assert second.artifacts["denoiser"].keys() == first.artifacts["denoiser"].keys()
    (family,) = second.families["latents"].values()
    assert list(family.members) == ["7", "2"]
    assert second.artifacts["distilled"].keys().isdisjoint(first.artifacts["distilled"])


def test_a_denoiser_is_trained_on_all_classes_of_its_source(diffused):
    diffused["experiments"]["x"]["protocols"] = ["hard"]
    wanted = build(diffused)
    (images,) = wanted.families["images"].values()
    assert set(images.members) == set("0123456789")
    (denoiser,) = wanted.artifacts["denoiser"].values()
    assert denoiser.settings["classes"] == list("0123456789")
    assert denoiser.slug == "digits-8px-dit"  # the others of the config have no method
    for method in diffused["methods"].values():
        method["denoiser"] = "dit"
    (images,) = build(diffused).families["images"].values()
    assert list(images.members) == ["0", "1", "2"]


def test_a_denoiser_has_the_names_of_all_classes_and_stages_its_prompts(diffused):
    assert '"prompts"' not in json.dumps(sets_of(build(diffused))["d3hr"].spec())
    diffused["methods"]["d3hr"]["denoiser"] = "sd"
    one = sets_of(build(diffused))["d3hr"]
    assert ancestor(one, "denoiser").settings["names"] == {c: c for c in "0123456789"}
    assert ancestor(one, "inversion").settings["prompts"] == ["An image of {}", "An image of ."]
    assert "prompts" not in ancestor(one, "latents").settings


# Switches and overrides.


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
def test_the_paper_with_the_switches_of_the_code_is_the_code(diffused, kind, switches):
    before = set_digests(diffused)
    diffused["methods"][kind] |= {"fidelity": "paper", **switches}
    assert set_digests(diffused) == before


def test_rdeds_paper_with_the_switches_of_the_code_is_the_code(tiny):
    before = places(build(tiny))
    tiny["methods"]["rded"] |= {"fidelity": "paper", "assignment": "rank_blocks"}
    tiny["methods"]["rded"] |= {"rounding": "truncate", "encoding": "jpeg"}
    tiny["methods"]["random"]["fidelity"] = "paper"
    views = {"crop": [1.0, 1.0], "shuffle_patches": True}
    tiny["labels"]["soft"] |= {"fidelity": "paper", "views": {"flip": 0.0, **views}}
    tiny["labels"]["hard"] = {"kind": "hard", "fidelity": "paper", "views": views}
    for protocol in tiny["protocols"].values():
        protocol |= {"fidelity": "paper", "schedule": "half_cosine", "batchnorm_updates": 2}
    assert places(build(tiny)) == before


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ddps", {"ranking": "score"}),
        ("ddps", {"variant": "single"}),
        ("d4m", {"fit": "full"}),
        ("d3hr", {"noising": "forward"}),
        ("d3hr", {"loss_weights": {"mean": 0.5}}),
    ],
)
def test_an_override_is_a_method_with_these_settings(diffused, kind, change):
    diffused["experiments"]["x"]["methods"] = [{kind: change}]
    overridden = set_digests(diffused)
    diffused["methods"][kind] |= change
    diffused["experiments"]["x"]["methods"] = [kind]
    assert set_digests(diffused) == overridden


# Observers and their statistics.


def test_a_synthesis_has_its_observers_upstream(observed):
    sets = sets_of(build(observed))
    upstream = {kind: sets[kind].upstream["synthesis"].upstream for kind in SYNTHESES}
    assert {kind: list(parts) for kind, parts in upstream.items()} == {
        "sre2l": ["teachers"],
        "gvbsm": ["teachers", "statistics"],
        "edc": ["teachers", "statistics", "images"],
    }
    assert all(len(parts["teachers"]) == 2 for parts in upstream.values())
    for kind in ("gvbsm", "edc"):
        pairs = zip(upstream[kind]["statistics"], upstream[kind]["teachers"], strict=True)
        assert all(statistics.upstream["teacher"] is teacher for statistics, teacher in pairs)


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


def test_an_added_observer_adds_a_teacher_and_its_statistics(observed):
    before = build(observed)
    observed["methods"]["edc"]["observers"] = ["a", "b", "c"]
    after = build(observed)
    for stage in ("teacher", "statistics"):
        assert after.artifacts[stage].keys() > before.artifacts[stage].keys()
        assert len(after.artifacts[stage]) == 3
    shared = after.families["synthesis"].keys() & before.families["synthesis"].keys()
    # Three methods at two IPCs, of which one method is another.
    assert len(shared) == 4 and len(after.families["synthesis"]) == 6
    order = set_digests(observed)["edc"]["synthesis"]
    observed["methods"]["edc"]["observers"] = ["c", "b", "a"]
    assert set_digests(observed)["edc"]["synthesis"] != order


@pytest.mark.parametrize(
    ("kind", "change", "needed"),
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
def test_statistics_are_computed_where_batch_norms_do_not_suffice(observed, kind, change, needed):
    observed["experiments"]["x"]["methods"] = [kind]
    observed["methods"][kind] |= change
    assert ("statistics" in set_digests(observed)[kind]) is needed


def test_a_synthesis_that_starts_from_a_set_has_it_upstream(observed):
    observed["methods"]["edc"]["initial"] = "rded"
    observed["experiments"]["x"] |= {"methods": ["edc", "rded"], "distill_seeds": [0, 3]}
    sets = build(observed).artifacts["distilled"].values()
    of_rded = {tuple(one.keys.values()): one for one in sets if one.slug == "rded"}
    assert len(of_rded) == 4
    for one in (one for one in sets if one.slug == "edc"):
        upstream = one.upstream["synthesis"].upstream
        assert upstream["initial"] is of_rded[tuple(one.keys.values())]
        assert "images" not in upstream
    # That set is in the plan, even where no experiment names it; its method's name shapes nothing.
    observed["experiments"]["x"]["methods"] = ["edc"]
    before = set_digests(observed)["edc"]
    assert len(build(observed).artifacts["distilled"]) == 8
    observed["methods"]["start"] = observed["methods"].pop("rded")
    observed["methods"]["edc"]["initial"] = "start"
    assert set_digests(observed)["edc"] == before
    put(observed, "methods.start.rounding", "nearest")
    assert changed(before, set_digests(observed)["edc"]) == {"synthesis", "distilled"}


def test_a_synthesis_may_start_from_another(observed):
    observed["methods"]["gvbsm"]["initial"] = "edc"
    observed["methods"]["edc"]["initial"] = "random"
    observed["experiments"]["x"]["methods"] = ["gvbsm"]
    first = sets_of(build(observed))["gvbsm"].upstream["synthesis"].upstream["initial"]
    second = first.upstream["synthesis"].upstream["initial"]
    assert [first.settings["kind"], second.settings["kind"]] == ["edc", "random"]


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
        n_batches = counts[family.artifact.keys["ipc"]]
        assert list(family.members) == list(range(n_batches))
        assert family.artifact.n_members == n_batches


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"loss_weights": {"batchnorm": 1}}, {"loss_weights": {"batchnorm": 1.0}}),
        ({"flatness": {"kind": "logits"}}, {"flatness": {"kind": "logits", "temperature": 4}}),
    ],
)
def test_a_default_written_out_is_in_no_address(observed, change, same):
    unchanged = observed["methods"]["edc"]
    observed["methods"]["edc"] = {**unchanged, **change}
    before = set_digests(observed)["edc"]
    observed["methods"]["edc"] = {**unchanged, **same}
    assert set_digests(observed)["edc"] == before


def test_the_same_synthesis_has_one_digest_whatever_its_kind(observed):
    settings = {"initial": "real", "order": "by_class", "iterations": 9, "learning_rate": 0.1}
    settings |= {"crop": [0.5, 1.0], "alpha": 0.5, "momentum": 0.5}
    settings |= {"loss_weights": {"convolution": 0.1, "densification": 0}}
    for kind in SYNTHESES:
        observed["methods"][kind] |= settings
    sets = {kind: digests(one) for kind, one in sets_of(build(observed)).items()}
    assert sets["sre2l"]["synthesis"] == sets["gvbsm"]["synthesis"] == sets["edc"]["synthesis"]
