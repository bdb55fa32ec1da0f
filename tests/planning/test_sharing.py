"""Artifacts shared by methods, datasets, experiments, images per class and seeds."""

import copy
import json

import pytest
from diffused import METHODS, with_denoisers
from stillhouse.methods.registry import stages

from tests.planning.configs import (
    ancestor,
    build,
    lineage,
    places,
    set_digests,
    sets_of,
)


@pytest.fixture
def diffused(tiny):
    return with_denoisers(tiny)


def test_variants_of_rded_share_the_scores(tiny):
    before = places(build(tiny))
    tiny["methods"]["lossless"] = {**tiny["methods"]["rded"], "encoding": "png"}
    tiny["experiments"]["x"]["methods"].append("lossless")
    after = places(build(tiny))
    assert after["patch_scores"] == before["patch_scores"]
    assert len(after["distilled"]) == 6


def test_experiments_share_artifacts_of_equal_settings(tiny):
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
    stored = {"snapshots": [10, 20, 31]}
    turned = {"inversion_steps": 10, "snapshots": [31, 10, 20]}
    wanted = variants(diffused, stored, {**stored, "inversion_steps": 20}, turned)
    assert len(wanted.families["inversion"]) == 1
    assert len(wanted.families["samples"]) == len(wanted.families["decode"]) == 3 * 2
    assert len(variants(diffused, {}, {"inversion_steps": 20}).families["inversion"]) == 2
    # The default snapshot, written out or not.
    wanted = variants(diffused, {}, {"snapshots": [31]})
    assert len(wanted.families["inversion"]) == 1
    assert len(wanted.families["decode"]) == 2  # IPCs


@pytest.mark.parametrize(
    ("patch", "ipc", "variant", "side"),
    [(32, 10, "concat", 2), (32, 11, "single", 1), ("whole", 1, "single", 1)],
)
def test_ddps_decides_the_patches_per_image_before_its_address(diffused, patch, ipc, variant, side):
    diffused["methods"]["ddps"] |= {"denoiser": "sd", "patch": patch}
    diffused["experiments"]["x"] |= {"methods": ["ddps"], "ipc": [ipc]}
    decided = set_digests(diffused)
    settings = sets_of(build(diffused))["ddps"].settings
    assert settings["patches_per_side"] == side and not {"variant", "patch"} & settings.keys()
    for other in ("concat", "single"):
        diffused["methods"]["ddps"]["variant"] = other
        assert (set_digests(diffused) == decided) == (other == variant)


def test_the_start_of_an_inversion_shapes_no_forward_noising(diffused):
    noised = {"noising": "forward"}
    wanted = variants(diffused, noised, {**noised, "fidelity": "paper"})
    assert len(wanted.families["inversion"]) == 1


def test_ipc_and_seed_are_in_no_address_above_the_samples(diffused):
    diffused["experiments"]["x"] |= {"ipc": [1, 2, 5], "distill_seeds": [0, 1]}
    wanted = build(diffused)
    count = {stage: len(wanted.families[stage]) for stage in wanted.families}
    assert count["latents"] == count["inversion"] == 1
    # Draws of images, noise and centres depend on the seed, not on the IPC.
    assert count["class_scores"] == count["patch_features"] == count["clusters"] == 2
    assert count["samples"] == count["prototypes"] == 3 * 2
    assert count["decode"] == 2 * 3 * 2
    (inversion,) = (family.artifact for family in wanted.families["inversion"].values())
    assert '"ipc"' not in json.dumps(inversion.spec())
    # The seed of the denoiser is a setting, not a key.
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
    distilled = sets_of(build(diffused))["d3hr"]
    assert ancestor(distilled, "denoiser").settings["names"] == {c: c for c in "0123456789"}
    assert ancestor(distilled, "inversion").settings["prompts"] == [
        "An image of {}",
        "An image of .",
    ]
    assert "prompts" not in ancestor(distilled, "latents").settings


# Switches and overrides.


@pytest.mark.parametrize(
    ("kind", "switches"),
    [
        (
            "d3hr",
            {
                **{"inversion_start": "zero", "candidates": 100_000_000, "terms": "norm"},
                **{"std": "own", "skewness": "members", "sampling_start": "next"},
                "loss_weights": {"skewness": 0.1},
            },
        ),
        ("d4m", {"fit": "partial", "scheduler": "own"}),
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
