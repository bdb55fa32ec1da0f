"""How far a method or a denoiser can go: just so far, and no further."""

import itertools

import pytest
import torch
from diffused import FOLDER, HUB, TRAINED
from stillhouse.config import limits
from stillhouse.config.schema import definition, fill
from stillhouse.diffusion import decode
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.errors import StillhouseError

GIVEN = {"kind": "dit", "resolution": 8, "labels": {"0": 0, "1": 1}, "pretrained": FOLDER}


def refused(check, *arguments):
    """Tell whether a check refuses, which it has to do in one line."""
    try:
        check(*arguments)
    except StillhouseError as error:
        assert "\n" not in str(error) and ("; " in str(error) or "(" in str(error))
        return True
    return False


def trained(resolution=8, **changes):
    """Return a denoiser with changes by section of its training."""
    train = {k: {**v, **changes.get(k, {})} for k, v in TRAINED["train"].items()}
    train["network"].setdefault("patch_size", 2)
    return {"kind": "dit", "resolution": resolution, "train": train}


@pytest.mark.parametrize("steps", [2, 10, 50])
def test_a_strength_that_is_allowed_leaves_a_step(steps, monkeypatch):
    counts = []
    monkeypatch.setattr(decode, "sample", lambda *_, count, **others: counts.append(count))
    for strength in (0.01, 0.02, 0.0999, 0.1, 0.19, 0.2, 0.49, 0.5, 0.7, 0.99, 1.0):
        method = {"kind": "d4m", "steps": steps, "strength": strength}
        counts.clear()
        decode.image_to_image(
            torch.zeros(1, 1, 2, 2), Still(), (0, "0", 0), {**method, "guidance": 1.0}
        )
        assert refused(limits.check_diffusion, "k", method, GIVEN) is (not counts), strength


class Still:
    """A denoiser of which no more than the schedule is wanted."""

    device = "cpu"

    def __init__(self):
        self.schedule = NoiseSchedule.from_config({})

    def condition(self, class_id):
        return None


def d3hr(steps, inverted, **changes):
    return {"kind": "d3hr", "steps": steps, "inversion_steps": inverted, **changes}


def test_sampling_may_begin_a_step_above_all_that_is_inverted():
    for steps, inverted in itertools.product((2, 5, 50), (1, 2, 4, 5, 31, 49, 50)):
        # The code's first call is at grid[inverted].
        fits = inverted < steps
        assert refused(limits.check_diffusion, "k", d3hr(steps, inverted), GIVEN) is not fits


@pytest.mark.parametrize(
    ("snapshots", "fits"),
    [([31], True), ([10, 31, 49], True), ([31, 50], False), ([10, 20], False), ([31, 99], False)],
)
def test_snapshots_have_the_step_that_is_sampled_from(snapshots, fits):
    method = d3hr(50, 31, snapshots=snapshots)
    assert refused(limits.check_diffusion, "k", method, GIVEN) is not fits


def ddps_method(**changes):
    return {
        **{"kind": "ddps", "ranking": "score", "variant": "auto", "patch": 0, "clusters": 4},
        **{"images_per_class": "all", "timesteps": [0.1, 0.7], **changes},
    }


def config_of(images):
    """Return a config with one source, whose smallest class has so many images."""
    source = {"kind": "parquet", "classes": ["a", "b"], "smallest_class": images, "holdout": 0.0}
    return {
        "sources": {"s": source},
        "datasets": {"d": {"source": "s", "classes": "all", "resolution": 8}},
    }


def fits(method, images, *ipc):
    experiment = {"dataset": "d", "ipc": list(ipc)}
    return not refused(limits.check_ipc, config_of(images), "k", experiment, "m", method)


@pytest.mark.parametrize("variant", ["auto", "concat", "single"])
@pytest.mark.parametrize("patch", [0, 32])
@pytest.mark.parametrize("ipcs", [(1,), (10,), (11,), (12, 3), (10, 30), (2, 10, 41)])
def test_ddps_has_the_patches_that_it_takes(variant, patch, ipcs):
    method = ddps_method(variant=variant, patch=patch)
    tiled = lambda ipc: variant == "concat" or (variant == "auto" and patch and ipc <= 10)  # noqa: E731
    for images in range(1, 170):
        enough = all(ipc * (4 if tiled(ipc) else 1) <= images for ipc in ipcs)
        assert fits(method, images, *ipcs) is enough, images


def test_ddps_has_the_images_that_it_looks_at():
    looked = ddps_method(variant="single", images_per_class=20)
    assert fits(looked, 116, 20) and not fits(looked, 116, 21)
    assert fits(looked, 7, 7) and not fits(looked, 7, 8)
    tiled = {**looked, "variant": "concat"}
    assert fits(tiled, 116, 5) and not fits(tiled, 116, 6)
    assert fits(tiled, 7, 1) and not fits(tiled, 7, 2)
    assert fits(ddps_method(variant="single"), 116, 116)


def test_ddps_has_an_image_for_every_cluster():
    clustered = ddps_method(ranking="clusters", variant="single", clusters=20)
    assert fits(clustered, 20, 1) and not fits(clustered, 19, 1)
    assert not fits({**clustered, "images_per_class": 19}, 116, 1)
    assert not fits({**clustered, "images_per_class": 50}, 19, 1)
    assert fits({**clustered, "ranking": "score"}, 19, 1)


def test_statistics_give_any_number_of_images_and_prototypes_do_not():
    assert fits({"kind": "d3hr"}, 5, 5000)
    assert fits({"kind": "d4m"}, 5, 5) and not fits({"kind": "d4m"}, 5, 6)
    assert not fits({"kind": "random"}, 5, 6)


def test_a_patch_lies_within_the_image():
    sd = {"kind": "stable_diffusion", "resolution": 64}
    for patch, denoiser, right in (
        ("whole", GIVEN, True),
        ("whole", sd, True),
        (64, sd, True),
        (65, sd, False),
        (8, GIVEN, False),
    ):
        method = ddps_method(patch=patch)
        assert refused(limits.check_diffusion, "k", method, denoiser) is not right


def test_clip_is_asked_for_where_it_describes_patches():
    sd = {"kind": "stable_diffusion", "resolution": 64}
    method = ddps_method(patch="whole", ranking="clusters", features="clip")
    assert refused(limits.check_diffusion, "k", method, sd)
    assert refused(limits.check_diffusion, "k", {**method, "clip": {"hub": "a/b"}}, sd)
    assert not refused(limits.check_diffusion, "k", {**method, "clip": HUB}, sd)
    assert not refused(limits.check_diffusion, "k", {**method, "ranking": "score"}, sd)
    assert not refused(limits.check_diffusion, "k", {**method, "features": "dift"}, sd)


def synthesis_of(kind="edc", **given):
    """Return a method's settings with the schema's defaults."""
    settings = {"kind": kind, "observers": ["norms"], **given}
    return fill({"fidelity": "code", **settings}, definition("method"))


def starts_well(method, **others):
    """Tell whether a method may be synthesised, beside others of a config."""
    teachers = {
        "norms": {"arch": "convnet1", "norm": "batch"},
        "instance": {"arch": "convnet1", "norm": "instance"},
        "field": {"arch": "alexnet_small"},
        "library": {"arch": "torchvision/resnet18"},
    }
    config = {"teachers": teachers, "methods": {"m": method, **others}}
    return not refused(limits.check_synthesis, config, "methods.m", method)


@pytest.mark.parametrize("observer", ["norms", "instance", "field", "library"])
@pytest.mark.parametrize("norms", [0, 0.01])
@pytest.mark.parametrize("convolutions", [0, 0.01])
def test_batch_norms_are_matched_where_there_are_any(observer, norms, convolutions):
    weights = {"batchnorm": norms, "convolution": convolutions}
    method = synthesis_of(observers=sorted({"norms", observer}), weights=weights)
    lacking = observer in ("instance", "field") and norms > 0 and not convolutions
    assert starts_well(method) is not lacking


def test_flat_statistics_are_of_some_layer():
    for norms, convolutions in itertools.product((0, 0.01), repeat=2):
        weights = {"batchnorm": norms, "convolution": convolutions}
        method = synthesis_of(weights=weights, flatness={"on": "statistics"})
        assert starts_well(method) is (norms + convolutions > 0)


def test_a_synthesis_starts_from_something_in_the_end():
    start = lambda name: synthesis_of(initial=name)  # noqa: E731
    random = {"kind": "random"}
    assert all(starts_well(start(name)) for name in ("noise", "real"))
    assert starts_well(start("r"), r=random)
    assert starts_well(start("a"), a=start("b"), b=start("r"), r=random)
    assert not starts_well(start("r"))
    assert not starts_well(start("m"))
    assert not starts_well(start("a"), a=start("m"))
    assert not starts_well(start("a"), a=start("b"), b=start("m"))
    assert not starts_well(start("a"), a=start("b"), b=start("a"))
    assert not starts_well(start("a"), a=start("nowhere"))


@pytest.mark.parametrize("kind", ["sre2l", "gvbsm", "edc"])
def test_a_synthesis_gives_any_number_of_images(kind):
    assert fits({"kind": kind}, 5, 5000)
