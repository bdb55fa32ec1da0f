"""Invalid settings of denoisers."""

import itertools
import re

import pytest
from diffused import FOLDER, HUB, TRAINED
from stillhouse.diffusion import settings, training
from stillhouse.errors import StillhouseError

PRETRAINED = {
    "kind": "dit",
    "resolution": 8,
    "class_labels": {"0": 0, "1": 1},
    "pretrained": FOLDER,
}


def refused(check, *arguments):
    """Return whether a check raises, which it must do in one line."""
    try:
        check(*arguments)
    except StillhouseError as error:
        assert "\n" not in str(error) and "; " in str(error)
        return True
    return False


def trained(resolution=8, **changes):
    """Return a denoiser with changes by section of its training."""
    train = {k: {**v, **changes.get(k, {})} for k, v in TRAINED["train"].items()}
    train["network"].setdefault("patch_size", 2)
    return {"kind": "dit", "resolution": resolution, "train": train}


def test_a_denoiser_is_either_trained_or_pretrained():
    for denoiser in (trained(), PRETRAINED, {**PRETRAINED, "pretrained": HUB}):
        assert not refused(settings.check_denoiser, "denoisers.d", denoiser)
    sd = {"kind": "stable_diffusion", "resolution": 64}
    assert not refused(settings.check_denoiser, "denoisers.d", {**sd, "pretrained": HUB})
    for denoiser, problem, remedy in (
        ({**PRETRAINED, **trained()}, "train conflicts with pretrained", "train or pretrained"),
        ({"kind": "dit", "resolution": 8}, "no weights", "train or pretrained"),
        (sd, "no weights", "pretrained"),
    ):
        message = f"denoisers.d: {problem}; must have {remedy}"
        with pytest.raises(StillhouseError, match=f"^{re.escape(message)}$"):
            settings.check_denoiser("denoisers.d", denoiser)


@pytest.mark.parametrize("names", [*itertools.product([False, True], repeat=4)])
def test_weights_are_named_by_digest_or_commit(names):
    keys = ("folder", "sha256", "hub", "revision")
    weights = {key: "x" for key, present in zip(keys, names, strict=True) if present}
    right = set(weights) in ({"folder", "sha256"}, {"hub", "revision"})
    assert refused(settings.check_pretrained, "k", weights) is not right


def halved(resolution, levels):
    """Return the side of the latents, None if a level would have half a pixel."""
    for _ in range(levels - 1):
        if resolution % 2:
            return None
        resolution //= 2
    return resolution


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_levels_and_tokens_divide_the_side(levels, patch):
    sizes = {"autoencoder": {"channels": [4] * levels}, "network": {"patch_size": patch}}
    for resolution in range(8, 33):
        side = halved(resolution, levels)
        fits = side is not None and side % patch == 0
        denoiser = trained(resolution, **sizes)
        assert refused(settings.check_denoiser, "k", denoiser) is not fits, resolution


@pytest.mark.parametrize(
    ("channels", "groups", "fits"),
    [([4, 8], 4, True), ([6, 9], 3, True), ([8, 4, 2], 4, False), ([3], 2, False)],
)
def test_groups_divide_all_channels(channels, groups, fits):
    denoiser = trained(8, autoencoder={"channels": channels, "norm_groups": groups})
    assert refused(settings.check_denoiser, "k", denoiser) is not fits


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_valid_networks_can_be_built(heads):
    built = []
    for width in range(2, 17):
        denoiser = trained(8, network={"width": width, "heads": heads, "layers": 1})
        if not refused(settings.check_denoiser, "k", denoiser):
            training.build_network(denoiser["train"]["network"], 2, 4, 3, 0)
            built.append(width)
    assert {4 * heads, 8 * heads} & set(range(2, 17)) <= set(built)
    assert not [width for width in built if width % heads]


def test_class_labels_cover_all_classes():
    for denoiser, classes, known in (
        (PRETRAINED, ["1", "0"], True),
        (PRETRAINED, ["0"], True),
        (PRETRAINED, ["0", "2"], False),
        (trained(), ["anything"], True),
        ({"kind": "stable_diffusion"}, ["anything"], True),
    ):
        assert refused(settings.check_classes, "k", denoiser, classes) is not known
