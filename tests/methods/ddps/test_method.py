"""Limits of DDPS: patches and clusters per class, patch sizes of the denoiser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.errors import StillhouseError
from stillhouse.methods.ddps.method import DDPS

HUB = {"hub": "someone/clip", "revision": "c" * 40}
DENOISERS = {
    "dit": {"kind": "dit", "resolution": 8, "pretrained": HUB},
    "own": {"kind": "dit", "resolution": 8, "train": {"network": {"layers": 2}}},
    "sd": {"kind": "stable_diffusion", "resolution": 64, "pretrained": HUB},
}


def settings_of(**changes):
    return {
        **{"kind": "ddps", "ranking": "score", "variant": "auto", "patch": 0, "clusters": 4},
        **{"images_per_class": "all", "timesteps": [0.1, 0.7], "denoiser": "sd", **changes},
    }


def fits(ipcs, smallest, **changes):
    """Return whether a number of images per class suffices; an error must be one line."""
    try:
        most, _ = DDPS().max_ipc("k", settings_of(**changes), ipcs, smallest, 64)
    except StillhouseError as error:
        assert str(error).startswith("k") and "; " in str(error)
        return False
    return max(ipcs) <= most


@given(
    ipcs=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    smallest=st.integers(1, 170),
    limit=st.one_of(st.just("all"), st.integers(1, 170)),
    variant=st.sampled_from(["auto", "concat", "single"]),
    patch=st.sampled_from([0, 32]),
)
def test_every_patch_is_of_a_different_image(ipcs, smallest, limit, variant, patch):
    images = smallest if limit == "all" else min(limit, smallest)
    needed = [
        ipc * (4 if variant == "concat" or (variant == "auto" and patch and ipc <= 10) else 1)
        for ipc in ipcs
    ]
    changes = {"variant": variant, "patch": patch, "images_per_class": limit}
    assert fits(ipcs, smallest, **changes) is (max(needed) <= images)


@given(images=st.integers(1, 40), clusters=st.integers(1, 40))
def test_every_cluster_has_an_image(images, clusters):
    changes = {"clusters": clusters, "variant": "single"}
    assert fits([1], images, ranking="clusters", **changes) is (clusters <= images)
    assert fits([1], 99, ranking="clusters", images_per_class=images, **changes) is (
        clusters <= images
    )
    assert fits([1], images, ranking="score", **changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"patch": 64}, None),
        ({"patch": 65}, "k.patch: must be at most the denoiser's resolution, 64 px, not 65"),
        ({"patch": 8, "denoiser": "dit"}, "k.patch: 8 conflicts with a denoiser of kind dit"),
        ({"denoiser": "dit"}, None),
        ({"timesteps": [0.5, 0.5]}, "k.timesteps: must be [lower, higher], not [0.5, 0.5]"),
        ({"timesteps": [0.7, 0.1]}, "k.timesteps: must be [lower, higher]"),
        ({"ranking": "clusters", "features": "clip"}, "k.clip: missing"),
        ({"ranking": "clusters", "features": "clip", "clip": HUB}, None),
        ({"ranking": "clusters", "features": "clip", "clip": {"hub": "a/b"}}, "k.clip: "),
        ({"ranking": "clusters", "features": "dift", "layer": 9}, None),
        ({"denoiser": "own", "ranking": "clusters", "features": "dift", "layer": 1}, None),
        (
            {"denoiser": "own", "ranking": "clusters", "features": "dift", "layer": 2},
            "k.layer: must be at most 1, not 2",
        ),
    ],
)
def test_settings_must_fit_the_denoiser(changes, problem):
    config = {"denoisers": DENOISERS}
    if problem is None:
        DDPS().check("k", settings_of(**changes), config)
        return
    with pytest.raises(StillhouseError) as caught:
        DDPS().check("k", settings_of(**changes), config)
    assert str(caught.value).startswith(problem) and "; " in str(caught.value)


def test_settings_of_features_that_are_not_computed_have_no_effect():
    def unused(**changes):
        (entry,) = DDPS().unused(settings_of(**changes))
        return entry.names, entry.reason

    dift = {"timestep", "layer", "ensemble", "dift_input"}
    clusters = {"ranking": "clusters", "features": "dift"}
    assert unused(**clusters, patch=32) == ({"clip"}, "features: dift")
    entries = DDPS().unused(settings_of(**clusters, patch="whole"))
    assert [(e.names, e.reason) for e in entries] == [
        ({"clip"}, "features: dift"),
        ({"dift_input"}, "patch: whole"),
    ]
    assert unused(ranking="clusters", features="clip") == (dift, "features: clip")
    names, reason = unused(ranking="score")
    assert names == dift | {"features", "clip", "clusters", "clusters_used"}
    assert reason == "ranking: score"
