"""Addresses, blocks and manifests, teachers, labels and cells of a plan."""

import copy
import itertools

import pytest
from diffused import with_denoisers
from stillhouse.artifacts.addresses import digest
from stillhouse.methods.registry import stages

from tests.conftest import TINY
from tests.planning.configs import (
    build,
    lineage,
    places,
    put,
    sets_of,
    with_codec,
    with_matching,
    with_observers,
)

# Digest of all paths of a stage in a config with every stage. They change with defaults, versions
# and the digested settings; all users then recompute these stages.
ADDRESSES = {
    "index": "ccced11146e5",
    "images": "27397f52239a",
    "dataset": "920c12ca1e7f",
    "teacher": "a6df781fb472",
    "denoiser": "214530995f2d",
    "latents": "e8765d943281",
    "decode": "95e2d9d9ae1c",
    "features": "47471f79b6b2",
    "distilled": "eb094ac660da",
    "labels": "194dd684aa8d",
    "students": "68c5496f34db",
    "patch_scores": "3e366b6d5eed",
    "class_scores": "0a1ba2106a71",
    "patch_features": "8fa09d9f17b9",
    "clusters": "c8fc8cbe3cbd",
    "inversion": "0dee0493ef50",
    "samples": "ef7a4c3c0fe8",
    "prototypes": "b07b97bb5f15",
    "statistics": "21544a8c4c3f",
    "synthesis": "edefc9f612ad",
    "whitening": "3bb491f33da3",
    "trajectories": "11e477f6a90c",
    "matched": "8d0469c2cc57",
    "compression": "2b82627ee2f1",
    "bitstream": "3b41d636a144",
    "rate_utility": "013e56618eb7",
    "bound": "df10b9c75771",
}
CLASSES = tuple("0123456789")


def every_stage():
    """Return a config whose plan has every stage."""
    config = copy.deepcopy(TINY)
    methods = {**config["methods"], "herding": {"kind": "herding", "feature_space": "t"}}
    with_observers(with_denoisers(config))
    config["methods"] |= methods
    kinds = ["random", "herding", "rded", "d3hr", "ddps", "d4m", "sre2l", "edc"]
    config["experiments"]["x"] |= {"methods": kinds, "protocols": ["soft", "hard"]}
    return config


def test_addresses_are_stable():
    matching = places(build(with_matching(copy.deepcopy(TINY))))
    coded = places(build(with_codec(copy.deepcopy(TINY))))
    whitened = copy.deepcopy(TINY)
    whitened["students"]["s"]["zca"] = 0.1
    by_stage = places(build(whitened)) | matching | coded | places(build(every_stage()))
    assert by_stage.keys() == stages().keys()
    actual = {stage: digest(sorted(by_stage[stage])) for stage in ADDRESSES}
    assert actual == ADDRESSES, f"new addresses; if they were meant to change, record {actual}"
    assert ADDRESSES.keys() == stages().keys()


def test_a_plan_has_the_artifacts_of_its_cells(tiny):
    wanted = build(tiny)
    artifacts = {stage: len(by_path) for stage, by_path in wanted.artifacts.items()}
    # Two methods at two IPCs, soft and hard labels.
    assert artifacts == {"index": 1, "dataset": 1, "teacher": 1, "distilled": 4, "labels": 4}
    members = {
        stage: [list(family.members) for family in by_name.values()]
        for stage, by_name in wanted.families.items()
    }
    classes = ["0", "1", "2"]
    assert members == {"images": [classes], "patch_scores": [classes], "students": [[0, 1]] * 8}


def test_each_artifact_exists_once():
    # So that its digest, over the digests of all its upstream, is computed once.
    wanted = build(every_stage())
    held = {id(one) for by_path in wanted.artifacts.values() for one in by_path.values()}
    held |= {id(f.artifact) for by_name in wanted.families.values() for f in by_name.values()}
    for artifact in sets_of(wanted).values():
        assert {id(part) for part in lineage(artifact)} <= held


def test_random_images_with_hard_labels_need_no_teacher(tiny):
    tiny["experiments"]["x"] |= {"methods": ["random"], "protocols": ["hard"]}
    assert places(build(tiny)).keys() == {"index", "images", "dataset", "distilled", "students"}


def test_distill_seeds_are_in_the_path_and_not_in_the_digest(tiny):
    tiny["experiments"]["x"]["distill_seeds"] = [0, 7]
    wanted = build(tiny)
    scores = [family.artifact for family in wanted.families["patch_scores"].values()]
    assert {artifact.keys["seed"] for artifact in scores} == {0, 7}
    assert len({artifact.name for artifact in scores}) == 1
    students = wanted.families["students"].values()
    assert len({family.artifact.digest for family in students}) == len(students) == 16


# Teachers.


def test_a_teacher_has_to_reach_the_highest_min_accuracy_of_its_names(tiny):
    tiny["teachers"]["strict"] = {**tiny["teachers"]["t"], "min_accuracy": 80}
    tiny["methods"]["other"] = {**tiny["methods"]["rded"], "teacher": "strict"}
    tiny["experiments"]["x"]["methods"] = ["rded", "other"]
    wanted = build(tiny)
    (artifact,) = wanted.artifacts["teacher"].values()
    assert wanted.min_accuracy(artifact) == 80


@pytest.mark.parametrize(("n_classes", "minimum"), [(2, 55), (5, 28), (8, 18.75), (10, 15)])
def test_a_teacher_has_to_exceed_chance_by_default(tiny, n_classes, minimum):
    del tiny["teachers"]["t"]["min_accuracy"]
    tiny["datasets"]["three"]["classes"] = [str(digit) for digit in range(n_classes)]
    wanted = build(tiny)
    (artifact,) = wanted.artifacts["teacher"].values()
    assert wanted.min_accuracy(artifact) == pytest.approx(minimum)


def test_a_loaded_teacher_is_identified_by_its_weights_not_their_location(tiny):
    def named(file, sha256):
        weights = {"file": file, "sha256": sha256 * 64}
        tiny["teachers"]["t"] = {"arch": "convnet1", "weights": weights}
        return places(build(tiny))["teacher"]

    assert named("a/x.pth", "0") == named("b/y.safetensors", "0")
    assert named("a/x.pth", "0") != named("a/x.pth", "1")


def test_a_librarys_weights_are_known_by_their_name(tiny):
    tiny["sources"]["in"] = {
        **{"kind": "parquet", "train": ["a"], "test": ["b"], "smallest_class": 40},
        "classes": ["n01440764", "n03445777"],
    }
    tiny["datasets"]["three"] = {"source": "in", "resolution": 64}

    def named(name, **settings):
        weights = {"arch": "torchvision/resnet50", "weights": {"pretrained": name}}
        tiny["teachers"]["t"] = {**weights, **settings}
        return places(build(tiny))["teacher"]

    assert named("IMAGENET1K_V1") == named("IMAGENET1K_V1", min_accuracy=9)
    assert named("IMAGENET1K_V1") != named("IMAGENET1K_V2")


# Cells and labels.


def test_cells_are_in_the_order_of_the_table(tiny):
    tiny["experiments"]["x"] |= {"methods": ["rded", "random"], "seeds": [1, 0]}
    tiny["experiments"]["a"] = {**tiny["experiments"]["x"], "ipc": [1]}
    wanted = build(tiny)
    assert list(wanted.experiments) == ["a", "x"]
    cells = wanted.experiments["x"]
    orders = itertools.product(["rded", "random"], [1, 2], ["soft", "hard"], [1, 0])
    names = ("method", "ipc", "protocol", "seed")
    assert [tuple(cell[name] for name in names) for cell in cells] == list(orders)


def test_a_cell_names_its_settings_and_teachers(tiny):
    tiny["teachers"]["u"] = {**tiny["teachers"]["t"], "seed": 1}
    tiny["teachers"] |= {n: {**tiny["teachers"]["u"], "norm": "batch"} for n in "vw"}
    tiny["teachers"]["w"]["seed"] = 2
    tiny["methods"]["edc"] = {"kind": "edc", "fidelity": "paper", "observers": ["w", "v"]}
    tiny["labels"]["soft"]["teachers"] = ["v", "u"]
    tiny["protocols"]["soft"]["tests"] = {"every": 1, "after": 0}
    tiny["experiments"]["x"] |= {"methods": ["edc", "random"], "ipc": [1], "seeds": [3]}
    first, *others = build(tiny).experiments["x"]
    artifact = first.pop("artifact")
    assert artifact.stage.name == "students" and artifact.upstream["distilled"].keys["ipc"] == 1
    assert first == {
        **{"experiment": "x", "dataset": "three", "method": "edc", "kind": "edc"},
        **{"n_classes": 3, "resolution": 8},
        **{"fidelity": "paper", "ipc": 1, "distill_seed": 0, "seed": 3, "protocol": "soft"},
        **{"teacher": "w+v+u", "student": "s", "arch": "convnet1", "report": "last"},
        **{"labels": "soft", "label_encoding": "float16", "label_teachers": "v+u"},
        **{"on_divergence": "error", "hard_protocol": "hard", "twin": ""},
        **{"n_tests": 2, "first_test": 1, "last_test": 2},
    }
    assert [cell["teacher"] for cell in others] == ["w+v", "v+u", ""]
    assert [cell["n_tests"] for cell in others] == [1, 2, 1]


@pytest.mark.parametrize(
    ("labels", "upstream"),
    [
        ({"kind": "hard"}, {"distilled", "images"}),
        ({"kind": "online", "teachers": ["t"]}, {"distilled", "images", "teachers"}),
        ({"kind": "soft", "teachers": ["t"]}, {"distilled", "images", "labels"}),
    ],
)
def test_students_learn_from_the_set_and_its_labels(tiny, labels, upstream):
    tiny["labels"]["soft"] = labels
    tiny["experiments"]["x"]["protocols"] = ["soft"]
    wanted = build(tiny)
    for family in wanted.families["students"].values():
        assert family.artifact.upstream.keys() == upstream
    assert ("labels" in wanted.artifacts) == (labels["kind"] == "soft")


def test_students_of_a_hundred_classes_share_a_label_table(tiny):
    classes = [f"c{i}" for i in range(100)]
    files = {"train": ["a.parquet"], "test": ["b.parquet"], "smallest_class": 500}
    tiny["sources"]["cifar100"] = {"kind": "parquet", "classes": classes, **files}
    tiny["datasets"]["three"] = {"source": "cifar100", "resolution": 32}
    tiny["students"] = {"s": {"arch": "convnet3"}, "r": {"arch": "resnet18_modified"}}
    tiny["experiments"]["x"] |= {"students": ["s", "r"], "methods": ["random"], "ipc": [10]}
    del tiny["protocols"]["soft"]["batch_size"]
    for arch, batch_size in (("convnet3", 25), ("resnet18_modified", 100)):
        tiny["teachers"]["t"] = {"arch": arch}
        (table,) = build(tiny).artifacts["labels"].values()
        assert table.settings["batch_size"] == batch_size


@pytest.mark.parametrize(
    ("views", "shared"),
    [
        ({"mix": "none", "siamese": {}}, True),
        ({"mix": "cutmix"}, True),
        ({"mix": "cutmix", "mix_per": "row"}, False),
        ({"mix": "none"}, False),
    ],
)
def test_a_batch_size_shapes_tables_whose_batches_share_an_operation(tiny, views, shared):
    tiny["labels"]["soft"]["views"] = views
    tables = []
    for batch_size in (1, 2):
        put(tiny, "protocols.soft.batch_size", batch_size)
        tables.append(places(build(tiny))["labels"])
    assert (tables[0] != tables[1]) == shared


def test_running_statistics_shape_only_networks_that_have_them(tiny):
    def students(updates, norm):
        put(tiny, "protocols.soft.batchnorm_updates", updates)
        put(tiny, "students.s.norm", norm)
        return places(build(tiny))["students"]

    assert students(1, "instance") == students(2, "instance")
    assert students(1, "batch") != students(2, "batch")


def test_epochs_by_ipc_are_settled(tiny):
    put(tiny, "protocols.soft.epochs", "auto")
    by_ipc = {
        family.artifact.upstream["distilled"].keys["ipc"]: family.artifact.settings["training"]
        for family in build(tiny).families["students"].values()
        if family.artifact.settings["labels"]["kind"] == "soft"
    }
    assert {ipc: training["epochs"] for ipc, training in by_ipc.items()} == {1: 3000, 2: 2000}
