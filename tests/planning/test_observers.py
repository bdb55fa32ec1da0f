"""Sets synthesised for observers: their teachers, statistics, initial sets and batches."""

import pytest

from tests.planning.configs import (
    SYNTHESES,
    build,
    changed,
    digests,
    put,
    set_digests,
    sets_of,
    with_observers,
)


@pytest.fixture
def observed(tiny):
    return with_observers(tiny)


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
    of_rded = {tuple(a.keys.values()): a for a in sets if a.slug == "rded"}
    assert len(of_rded) == 4
    for distilled in [artifact for artifact in sets if artifact.slug == "edc"]:
        upstream = distilled.upstream["synthesis"].upstream
        assert upstream["initial"] is of_rded[tuple(distilled.keys.values())]
        assert "images" not in upstream
    # The plan has that set even if no experiment names it; the method's name is in no digest.
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


def test_the_same_synthesis_has_one_digest_for_all_kinds(observed):
    settings = {"initial": "real", "order": "by_class", "iterations": 9, "learning_rate": 0.1}
    settings |= {"crop": [0.5, 1.0], "alpha": 0.5, "momentum": 0.5, "verifier": "none"}
    settings |= {"loss_weights": {"convolution": 0.1, "densification": 0}}
    for kind in SYNTHESES:
        observed["methods"][kind] |= settings
    sets = {kind: digests(one) for kind, one in sets_of(build(observed)).items()}
    assert sets["sre2l"]["synthesis"] == sets["gvbsm"]["synthesis"] == sets["edc"]["synthesis"]
