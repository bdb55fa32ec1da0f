"""What an edit touches, seen on addresses alone."""

import pprint
from pathlib import Path

import pytest
import yaml
from stillhouse.planning import plan as plans

ROOT = Path(__file__).parents[2]

# Recorded addresses of the default config. They change when a default setting or a version does;
# any other change makes everybody compute everything again.
GOLDEN = {
    "class_scores": ["digits-dit-81ce03b5"],
    "clusters": ["digits-dit-dift-cf327142"],
    "decode": ["digits-dit-14c984ad", "digits-dit-39584170"],
    "denoiser": ["digits-16px-dit-c1f9453d"],
    "distilled": [
        "d3hr-b1b61036",
        "d4m-27634e84",
        "ddps-5306779c",
        "edc-122beb8f",
        "herding-e7410cb0",
        "kmeans-b1ee019d",
        "random-3ac8e030",
        "rded-0cdb7b84",
        "sre2l-1e15b322",
    ],
    "features": ["digits-16px-convnet3-a1d913fd", "digits-dit-dift-6a10e284"],
    "images": ["digits-4f6f8a19"],
    "index": ["digits-699b1df0"],
    "inversion": ["digits-dit-steps31-5c32fab9"],
    "labels": [
        "digits-d3hr-ipc1-seed0-soft-961c925a",
        "digits-d3hr-ipc10-seed0-soft-5aeb60f2",
        "digits-d4m-ipc1-seed0-soft-38d0a0ce",
        "digits-d4m-ipc10-seed0-soft-fb6fc005",
        "digits-ddps-ipc1-seed0-soft-f963f2e6",
        "digits-ddps-ipc10-seed0-soft-4f86746c",
        "digits-edc-ipc1-seed0-soft-716a4ad7",
        "digits-edc-ipc10-seed0-soft-cfa7d1ad",
        "digits-herding-ipc1-seed0-soft-641f769e",
        "digits-herding-ipc10-seed0-soft-4aa9eb14",
        "digits-kmeans-ipc1-seed0-soft-d19d99d1",
        "digits-kmeans-ipc10-seed0-soft-3b204f95",
        "digits-random-ipc1-seed0-soft-b79697f5",
        "digits-random-ipc10-seed0-soft-a56e7188",
        "digits-rded-ipc1-seed0-soft-eab5974d",
        "digits-rded-ipc10-seed0-soft-fc522476",
        "digits-sre2l-ipc1-seed0-soft-1aad8c57",
        "digits-sre2l-ipc10-seed0-soft-c60f28ee",
    ],
    "latents": ["digits-dit-79865cb1"],
    "patch_scores": ["digits-16px-convnet3-a4a28609"],
    "prototypes": ["digits-dit-bc870501"],
    "samples": ["digits-dit-steps31-fbdc212a"],
    "statistics": ["digits-16px-convnet3-f7e1bf1c", "digits-16px-convnet3-f9ba2ef3"],
    "students": [
        "digits-d3hr-ipc1-seed0-hard-convnet3-c0fb3958",
        "digits-d3hr-ipc1-seed0-soft-convnet3-c7579cd8",
        "digits-d3hr-ipc10-seed0-hard-convnet3-9490bc80",
        "digits-d3hr-ipc10-seed0-soft-convnet3-1ae30d8a",
        "digits-d4m-ipc1-seed0-hard-convnet3-448d1671",
        "digits-d4m-ipc1-seed0-soft-convnet3-d6ef3fc7",
        "digits-d4m-ipc10-seed0-hard-convnet3-1d72b929",
        "digits-d4m-ipc10-seed0-soft-convnet3-8daaa1ba",
        "digits-ddps-ipc1-seed0-hard-convnet3-6733c97b",
        "digits-ddps-ipc1-seed0-soft-convnet3-360ea033",
        "digits-ddps-ipc10-seed0-hard-convnet3-cba70a16",
        "digits-ddps-ipc10-seed0-soft-convnet3-360b8885",
        "digits-edc-ipc1-seed0-hard-convnet3-6ea77a86",
        "digits-edc-ipc1-seed0-soft-convnet3-7a2387c6",
        "digits-edc-ipc10-seed0-hard-convnet3-2b0e27ad",
        "digits-edc-ipc10-seed0-soft-convnet3-03327d03",
        "digits-herding-ipc1-seed0-hard-convnet3-363eab90",
        "digits-herding-ipc1-seed0-soft-convnet3-1cb7a42d",
        "digits-herding-ipc10-seed0-hard-convnet3-7d145b40",
        "digits-herding-ipc10-seed0-soft-convnet3-2ac9c5e2",
        "digits-kmeans-ipc1-seed0-hard-convnet3-f32d23de",
        "digits-kmeans-ipc1-seed0-soft-convnet3-2a6b161c",
        "digits-kmeans-ipc10-seed0-hard-convnet3-5a03317c",
        "digits-kmeans-ipc10-seed0-soft-convnet3-711301df",
        "digits-random-ipc1-seed0-hard-convnet3-b084e477",
        "digits-random-ipc1-seed0-soft-convnet3-c396c395",
        "digits-random-ipc10-seed0-hard-convnet3-b389269f",
        "digits-random-ipc10-seed0-soft-convnet3-92e501a3",
        "digits-rded-ipc1-seed0-hard-convnet3-854c89bd",
        "digits-rded-ipc1-seed0-soft-convnet3-a750477a",
        "digits-rded-ipc10-seed0-hard-convnet3-56a1e415",
        "digits-rded-ipc10-seed0-soft-convnet3-d80343a3",
        "digits-sre2l-ipc1-seed0-hard-convnet3-41f45a3b",
        "digits-sre2l-ipc1-seed0-soft-convnet3-8bf05308",
        "digits-sre2l-ipc10-seed0-hard-convnet3-d160d876",
        "digits-sre2l-ipc10-seed0-soft-convnet3-8341fb0e",
    ],
    "synthesis": ["digits-16px-db34bc67", "digits-16px-f36fdb14"],
    "teacher": ["digits-16px-convnet3-1305a249", "digits-16px-convnet3-60f5936b"],
}


def addresses(wanted):
    """Return {stage: {path below the stage's folder}} of a plan, families and members."""
    found = {stage: set(by_place) for stage, by_place in wanted.single.items()}
    for stage, by_place in wanted.families.items():
        key = "class_id" if by_place and next(iter(by_place.values())).source else "student_seed"
        found[stage] = {
            family.artifact.at(**{key: member}).place
            for family in by_place.values()
            for member in family.members
        }
    return found


def method_of(place):
    """Return the method whose name the label of a place begins with."""
    return "rded" if "rded" in place else "random"


def of(found, stage, method):
    return {place for place in found[stage] if method_of(place) == method}


def test_how_whole_patches_are_scored_makes_no_difference(tiny, planned, before):
    tiny["methods"]["rded"]["scoring"] = "resize"
    assert addresses(planned(tiny)) == before


def test_names_that_shape_nothing_are_in_no_address(tiny, planned, before):
    tiny["labels"]["renamed"] = tiny["labels"].pop("soft")
    tiny["protocols"]["also"] = tiny["protocols"].pop("soft") | {"labels": "renamed"}
    tiny["students"]["other"] = tiny["students"].pop("s")
    tiny["experiments"]["x"] |= {"protocols": ["also", "hard"], "students": ["other"]}
    assert addresses(planned(tiny)) == before


@pytest.fixture
def before(tiny, planned):
    return addresses(planned(tiny))


def test_the_plan_has_all_that_the_cells_need(before):
    counts = {stage: len(places) for stage, places in before.items()}
    # Two methods at two IPCs; soft and hard; two seeds.
    assert counts == {
        "index": 1,
        "images": 3,
        "teacher": 1,
        "patch_scores": 3,
        "distilled": 4,
        "labels": 4,
        "students": 16,
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [("crops_per_image", 3), ("images_per_class", 21), ("crop", [0.1, 1.0]), ("scoring", "resize")],
)
def test_an_edit_of_what_rded_scores_touches_rded_alone(tiny, planned, key, value):
    tiny["methods"]["rded"]["patches_per_side"] = 2
    views = {"patches_per_side": 2}
    tiny["labels"]["soft"]["views"] = views
    tiny["labels"]["hard"] = {"kind": "hard", "views": views}
    before = addresses(planned(tiny))
    tiny["methods"]["rded"][key] = value
    after = addresses(planned(tiny))
    for stage in ("index", "images", "teacher"):
        assert after[stage] == before[stage]
    assert after["patch_scores"].isdisjoint(before["patch_scores"])
    for stage in ("distilled", "labels", "students"):
        assert of(after, stage, "rded").isdisjoint(of(before, stage, "rded"))
        assert of(after, stage, "random") == of(before, stage, "random")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patches_per_image", 2),
        ("assignment", "random"),
        ("rounding", "nearest"),
        ("encoding", "png"),
    ],
)
def test_an_edit_of_what_rded_does_with_scores_keeps_the_scores(tiny, planned, before, key, value):
    tiny["methods"]["rded"][key] = value
    after = addresses(planned(tiny))
    assert after["patch_scores"] == before["patch_scores"]
    assert of(after, "distilled", "rded").isdisjoint(of(before, "distilled", "rded"))
    assert of(after, "distilled", "random") == of(before, "distilled", "random")


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("protocols.soft", {"learning_rate": 0.5}),
        ("protocols.soft", {"temperature": 4}),
        ("protocols.soft", {"epochs": 3}),
        ("protocols.soft", {"loss": "mse_ce"}),
    ],
)
def test_an_edit_of_a_protocol_touches_its_students_alone(tiny, planned, before, section, change):
    kind, name = section.split(".")
    tiny[kind][name] |= change
    after = addresses(planned(tiny))
    hard = {place for place in before["students"] if "hard" in place}
    assert after["students"] & before["students"] == hard
    assert {**after, "students": 0} == {**before, "students": 0}


def test_an_edit_of_a_student_touches_all_students_alone(tiny, planned, before):
    tiny["students"]["s"]["arch"] = "convnet2"
    after = addresses(planned(tiny))
    assert after["students"].isdisjoint(before["students"])
    assert {**after, "students": 0} == {**before, "students": 0}


def test_what_only_tables_show_changes_no_address(tiny, planned, before):
    tiny["protocols"]["soft"]["report"] = "best"
    assert addresses(planned(tiny)) == before


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"epochs_stored": 3},
        {"encoding": "top2"},
        {"views": {"flip": 0.1}},
        {"views": {"flip": 0.0, "mix": "none"}},
        {"views": {"flip": 0.0, "mix_per": "row"}},
        {"views": {"flip": 0.0, "randaugment": {}}},
        {"views": {"flip": 0.0, "jitter": 0.4}},
        {"views": {"flip": 0.0, "lighting": 0.1}},
        {"views": {"flip": 0.0, "mix": "none", "siamese": {}}},
    ],
)
def test_an_edit_of_labels_leaves_distilled_sets(tiny, planned, before, change):
    tiny["labels"]["soft"] |= change
    after = addresses(planned(tiny))
    for stage in ("index", "images", "teacher", "patch_scores", "distilled"):
        assert after[stage] == before[stage]
    assert after["labels"].isdisjoint(before["labels"])
    hard = {place for place in before["students"] if "hard" in place}
    assert after["students"] & before["students"] == hard


def test_another_teacher_touches_what_it_judges(tiny, planned, before):
    tiny["teachers"]["t"]["seed"] = 1
    after = addresses(planned(tiny))
    assert after["images"] == before["images"]
    assert after["teacher"].isdisjoint(before["teacher"])
    assert after["patch_scores"].isdisjoint(before["patch_scores"])
    assert of(after, "distilled", "random") == of(before, "distilled", "random")
    assert after["labels"].isdisjoint(before["labels"])


def test_a_bar_for_a_teacher_changes_no_address(tiny, planned, before):
    tiny["teachers"]["t"]["min_accuracy"] = 50
    assert addresses(planned(tiny)) == before


def test_where_weights_lie_changes_no_address_and_which_they_are_does(tiny, planned):
    def place(file, sha256):
        weights = {"file": file, "sha256": sha256 * 64}
        tiny["teachers"]["t"] = {"arch": "convnet1", "weights": weights}
        return addresses(planned(tiny))["teacher"]

    assert place("a/x.pth", "0") == place("b/y.safetensors", "0")
    assert place("a/x.pth", "0") != place("a/x.pth", "1")


def test_the_name_of_pretrained_weights_is_their_address(tiny, planned):
    tiny["sources"]["in"] = {
        "kind": "parquet", "train": ["a"], "test": ["b"], "smallest_class": 40,
        "classes": ["n01440764", "n03445777"],
    }  # fmt: skip
    tiny["datasets"]["three"] = {"source": "in", "resolution": 64}

    def place(name, **recipe):
        loaded = {"arch": "torchvision/resnet50", "weights": {"pretrained": name}}
        tiny["teachers"]["t"] = {**loaded, **recipe}
        return addresses(planned(tiny))["teacher"]

    assert place("IMAGENET1K_V1") == place("IMAGENET1K_V1", min_accuracy=9)
    assert place("IMAGENET1K_V1") != place("IMAGENET1K_V2")


@pytest.mark.parametrize(
    ("section", "key", "more"),
    [
        ("experiments.x", "ipc", [1, 2, 5]),
        ("experiments.x", "seeds", [0, 1, 2]),
        ("experiments.x", "distill_seeds", [0, 1]),
    ],
)
def test_more_of_something_keeps_every_old_address(tiny, planned, before, section, key, more):
    kind, name = section.split(".")
    tiny[kind][name][key] = more
    after = addresses(planned(tiny))
    for stage, places in before.items():
        assert places <= after[stage]
    assert len(after["students"]) > len(before["students"])


def test_fewer_classes_keep_what_is_made_per_class(tiny, planned, before):
    tiny["teachers"]["t"]["dataset"] = "three"
    whole = addresses(planned(tiny))
    tiny["datasets"]["two"] = {**tiny["datasets"]["three"], "classes": ["2", "0"]}
    tiny["experiments"]["x"]["dataset"] = "two"
    after = addresses(planned(tiny))
    # The teacher judges classes apart from those of the experiment.
    assert after["teacher"] == whole["teacher"]
    assert after["patch_scores"] < whole["patch_scores"]
    assert {place.rsplit("/", 1)[1] for place in after["patch_scores"]} == {"0", "2"}
    assert after["images"] == whole["images"]
    assert after["distilled"].isdisjoint(whole["distilled"])


def test_the_order_of_classes_changes_labels_and_not_images(tiny, planned, before):
    tiny["datasets"]["three"]["classes"] = ["2", "1", "0"]
    after = addresses(planned(tiny))
    assert after["images"] == before["images"]
    assert after["distilled"].isdisjoint(before["distilled"])


@pytest.mark.parametrize("size", [1, 2, 100])
def test_blocks_change_no_address(tiny, planned, before, size):
    tiny["sources"]["digits"]["classes_per_block"] = size
    wanted = planned(tiny)
    assert addresses(wanted) == before
    blocks = [classes for _, classes in wanted.blocks("images")]
    assert [c for block in blocks for c in block] == ["0", "1", "2"]
    assert {len(block) for block in blocks[:-1]} <= {size}


def test_blocks_are_in_the_order_of_the_source(tiny, planned):
    tiny["datasets"]["three"]["classes"] = ["9", "2", "5"]
    tiny["sources"]["digits"]["classes_per_block"] = 2
    blocks = [classes for _, classes in planned(tiny).blocks("patch_scores")]
    assert blocks == [["2", "5"], ["9"]]


def test_how_it_is_computed_changes_no_address(tiny, planned, before):
    tiny["compute"] = {
        "device": "cuda",
        "threads": 3,
        "batch_size": 7,
        "checkpoint_seconds": 1,
    }
    assert addresses(planned(tiny)) == before


def test_two_methods_share_the_scores_they_agree_on(tiny, planned, before):
    tiny["methods"]["rded-png"] = {**tiny["methods"]["rded"], "encoding": "png"}
    tiny["experiments"]["x"]["methods"].append("rded-png")
    after = addresses(planned(tiny))
    assert after["patch_scores"] == before["patch_scores"]
    assert len(after["distilled"]) == 6


def test_two_experiments_share_what_they_agree_on(tiny, planned, before):
    tiny["experiments"]["again"] = {**tiny["experiments"]["x"], "seeds": [1, 5]}
    after = addresses(planned(tiny))
    assert {**after, "students": 0} == {**before, "students": 0}
    assert len(after["students"]) == 24


def test_paper_with_the_switches_of_the_code_is_the_code(tiny, planned, before):
    tiny["methods"]["rded"] |= {
        "fidelity": "paper",
        "scoring": "pad",
        "assignment": "rank_blocks",
        "rounding": "truncate",
        "encoding": "jpeg",
    }
    tiny["labels"]["soft"] |= {"fidelity": "paper"}
    tiny["labels"]["soft"]["views"] |= {"crop": [1.0, 1.0], "shuffle_patches": True}
    views = {"crop": [1.0, 1.0], "shuffle_patches": True}
    tiny["labels"]["hard"] = {"kind": "hard", "fidelity": "paper", "views": views}
    for protocol in tiny["protocols"].values():
        protocol |= {"fidelity": "paper", "schedule": "half_cosine", "batchnorm_updates": 2}
    assert addresses(planned(tiny)) == before


@pytest.mark.parametrize("section", ["methods.rded", "labels.soft", "protocols.soft"])
def test_paper_is_not_the_code(tiny, planned, before, section):
    kind, name = section.split(".")
    tiny[kind][name]["fidelity"] = "paper"
    assert addresses(planned(tiny)) != before


def test_the_fidelity_of_random_is_nothing(tiny, planned, before):
    tiny["methods"]["random"]["fidelity"] = "paper"
    assert addresses(planned(tiny)) == before


def test_distill_seeds_are_families_of_their_own(tiny, planned):
    tiny["experiments"]["x"]["distill_seeds"] = [0, 7]
    wanted = planned(tiny)
    scores = [family.artifact for family in wanted.families["patch_scores"].values()]
    assert {artifact.keys["seed"] for artifact in scores} == {0, 7}
    # One recipe, two seeds: the digest is the same, the folder is not.
    assert len({artifact.name for artifact in scores}) == 1
    students = wanted.families["students"].values()
    assert len({family.artifact.digest for family in students}) == len(students) == 16


def test_hard_students_want_no_teacher(tiny, planned):
    for family in planned(tiny).families["students"].values():
        upstream = family.artifact.upstream
        kind = family.artifact.settings["labels"]["kind"]
        assert set(upstream) == ({"distilled"} if kind == "hard" else {"distilled", "labels"})


def test_random_images_with_hard_labels_need_no_teacher_at_all(tiny, planned):
    tiny["experiments"]["x"] |= {"methods": ["random"], "protocols": ["hard"]}
    assert {"teacher", "patch_scores", "labels"}.isdisjoint(addresses(planned(tiny)))


def test_online_students_take_the_teacher_itself(tiny, planned):
    tiny["labels"]["soft"] = {"kind": "online", "teachers": ["t"]}
    wanted = planned(tiny)
    assert "labels" not in wanted.single
    upstream = [set(f.artifact.upstream) for f in wanted.families["students"].values()]
    assert {"distilled", "teacher0"} in upstream


def test_cells_say_what_they_are(tiny, planned):
    cells = planned(tiny).experiments["x"]
    assert len(cells) == 16
    first = {k: cells[0][k] for k in ("method", "ipc", "protocol", "seed", "teacher", "labels")}
    assert first == {
        "method": "random",
        "ipc": 1,
        "protocol": "soft",
        "seed": 0,
        "teacher": "t",
        "labels": "soft",
    }
    assert [cell["seed"] for cell in cells[:4]] == [0, 1, 0, 1]
    assert {cell["artifact"].keys["student_seed"] for cell in cells} == {0, 1}


def test_the_source_revision_is_in_every_address(tiny, planned, before):
    tiny["sources"]["digits"]["revision"] = 2
    after = addresses(planned(tiny))
    assert all(after[stage].isdisjoint(before[stage]) for stage in before)


def default_names(planned):
    wanted = planned(yaml.safe_load((ROOT / "config.yaml").read_text()))
    names = {
        stage: sorted({artifact.name for artifact in by_place.values()})
        for stage, by_place in wanted.single.items()
    }
    for stage, by_place in wanted.families.items():
        names[stage] = sorted({family.artifact.name for family in by_place.values()})
    return names


def test_default_addresses_are_those_of_every_run_before(planned):
    names = default_names(planned)
    for stage, found in names.items():
        assert found == GOLDEN[stage], (
            f"the default config's {stage} have new addresses; if config.yaml, a default or a "
            f"version was meant to change, write into GOLDEN:\n{pprint.pformat(names)}"
        )
    assert names.keys() == GOLDEN.keys()


def test_students_of_a_hundred_classes_share_a_label_table(tiny, planned):
    classes = [f"c{i}" for i in range(100)]
    files = {"train": ["a.parquet"], "test": ["b.parquet"]}
    tiny["sources"]["cifar100"] = {
        **{"kind": "parquet", "classes": classes, "smallest_class": 500},
        **files,
    }
    tiny["datasets"]["three"] = {"source": "cifar100", "resolution": 32}
    tiny["students"] = {"s": {"arch": "convnet3"}, "r": {"arch": "resnet18_modified"}}
    tiny["experiments"]["x"] |= {"students": ["s", "r"], "methods": ["random"], "ipc": [10]}
    tiny["protocols"]["soft"].pop("batch_size")
    for arch, batch in (("convnet3", 25), ("resnet18_modified", 100)):
        tiny["teachers"]["t"] = {"arch": arch}
        (table,) = planned(tiny).single["labels"].values()
        assert table.settings["batch_size"] == batch


def test_running_statistics_shape_only_networks_that_have_them(tiny, planned):
    def digests(updates, norm):
        tiny["protocols"]["soft"]["batchnorm_updates"] = updates
        tiny["students"]["s"]["norm"] = norm
        return {f.artifact.digest for f in planned(tiny).families["students"].values()}

    assert digests(1, "instance") == digests(2, "instance")
    assert digests(1, "batch") != digests(2, "batch")


def test_what_is_given_wins_over_the_fidelity(tiny, planned):
    tiny["protocols"]["soft"] |= {"schedule": "cosine", "learning_rate": 0.5}
    tiny["methods"]["rded"]["rounding"] = "nearest"
    wanted = planned(tiny)
    training = [
        f.artifact.settings["training"]
        for f in wanted.families["students"].values()
        if f.artifact.settings["labels"]["kind"] == "soft"
    ]
    assert {(t["schedule"], t["learning_rate"]) for t in training} == {("cosine", 0.5)}
    assert {t["batchnorm_updates"] for t in training} == {2}
    rded = [a.settings for a in wanted.single["distilled"].values() if "rounding" in a.settings]
    assert {(s["rounding"], s["assignment"]) for s in rded} == {("nearest", "rank_blocks")}


def test_epochs_by_ipc_are_in_the_addresses(tiny, planned):
    tiny["protocols"]["soft"]["epochs"] = "auto"
    found = {
        family.artifact.upstream["distilled"].keys["ipc"]: family.artifact.settings["training"]
        for family in planned(tiny).families["students"].values()
        if family.artifact.settings["labels"]["kind"] == "soft"
    }
    assert {ipc: training["epochs"] for ipc, training in found.items()} == {1: 3000, 2: 2000}


def test_a_batch_that_shares_an_operation_is_in_the_address_of_the_table(tiny, planned):
    def places():
        return addresses(planned(tiny))["labels"]

    for views, counts in (({"siamese": {}}, True), ({}, False)):
        tiny["labels"]["soft"]["views"] = {"mix": "none", **views}
        tiny["protocols"]["soft"]["batch_size"] = 1
        before = places()
        tiny["protocols"]["soft"]["batch_size"] = 2
        assert (places() != before) == counts


@pytest.fixture
def synthesised(tiny):
    """Return a config of one method that synthesises 3 × 5 images in batches of two."""
    tiny["methods"]["edc"] = {"kind": "edc", "observers": ["t"], "batch_size": 2}
    tiny["experiments"]["x"] |= {"methods": ["edc"], "protocols": ["hard"], "ipc": [1, 5]}
    return tiny


@pytest.mark.parametrize("size", [1, 3, 100])
def test_every_batch_is_in_one_job(synthesised, planned, size):
    wanted = planned(synthesised)
    jobs, names = {}, []
    for family, members in wanted.parts("synthesis", size):
        assert 1 <= len(members) <= size
        jobs.setdefault(family.artifact.keys["ipc"], []).extend(members)
        names.append(plans.block_name(family.artifact, [f"batch{n}" for n in members]))
    assert jobs == {1: list(range(2)), 5: list(range(8))}
    assert len(set(names)) == len(names) == -(-2 // size) + -(-8 // size)


def test_batches_a_job_are_in_no_address(synthesised, planned):
    before = addresses(planned(synthesised))
    synthesised["compute"] = {"batches_per_job": 1}
    assert addresses(planned(synthesised)) == before


def test_a_cell_names_the_observers_of_its_images(synthesised, planned):
    synthesised["teachers"]["u"] = {**synthesised["teachers"]["t"], "seed": 1}
    synthesised["methods"]["edc"]["observers"] = ["u", "t"]
    synthesised["experiments"]["x"]["protocols"] = ["hard", "soft"]
    cells = planned(synthesised).experiments["x"]
    assert {(cell["protocol"], cell["teacher"]) for cell in cells} == {
        ("hard", "u+t"),
        ("soft", "u+t"),
    }
