"""Settings of denoisers that cannot be."""

import itertools
import re

import pytest
from diffused import FOLDER, HUB, TRAINED
from stillhouse.config import limits
from stillhouse.diffusion import training
from stillhouse.errors import StillhouseError

GIVEN = {"kind": "dit", "resolution": 8, "class_labels": {"0": 0, "1": 1}, "pretrained": FOLDER}


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


def test_a_denoiser_is_either_trained_or_given():
    for denoiser in (trained(), GIVEN, {**GIVEN, "pretrained": HUB}):
        assert not refused(limits.check_denoiser, "denoisers.d", denoiser)
    sd = {"kind": "stable_diffusion", "resolution": 64}
    assert not refused(limits.check_denoiser, "denoisers.d", {**sd, "pretrained": HUB})
    for denoiser, there, wanted in (
        ({**GIVEN, **trained()}, "both", "train or pretrained"),
        ({"kind": "dit", "resolution": 8}, "neither", "train or pretrained"),
        (sd, "neither", "pretrained"),
    ):
        message = f"denoisers.d: has {there} of train and pretrained; should have {wanted}"
        with pytest.raises(StillhouseError, match=f"^{re.escape(message)}$"):
            limits.check_denoiser("denoisers.d", denoiser)


@pytest.mark.parametrize("names", [*itertools.product([False, True], repeat=4)])
def test_weights_are_known_by_what_does_not_change(names):
    keys = ("folder", "sha256", "hub", "revision")
    given = {key: "x" for key, there in zip(keys, names, strict=True) if there}
    right = set(given) in ({"folder", "sha256"}, {"hub", "revision"})
    assert refused(limits.check_pretrained, "k", given) is not right


def halved(resolution, levels):
    """Return the side of the latents, None where a level leaves half a pixel."""
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
        assert refused(limits.check_denoiser, "k", denoiser) is not fits, resolution


@pytest.mark.parametrize(
    ("channels", "groups", "fits"),
    [([4, 8], 4, True), ([6, 9], 3, True), ([8, 4, 2], 4, False), ([3], 2, False)],
)
def test_groups_divide_all_channels(channels, groups, fits):
    denoiser = trained(8, autoencoder={"channels": channels, "norm_groups": groups})
    assert refused(limits.check_denoiser, "k", denoiser) is not fits


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_a_network_that_is_allowed_can_be_built(heads):
    built = []
    for width in range(2, 17):
        denoiser = trained(8, network={"width": width, "heads": heads, "layers": 1})
        if not refused(limits.check_denoiser, "k", denoiser):
            training.build_network(denoiser["train"]["network"], 2, 4, 3, 0)
            built.append(width)
    assert {4 * heads, 8 * heads} & set(range(2, 17)) <= set(built)
    assert not [width for width in built if width % heads]


def test_labels_are_of_all_classes():
    for denoiser, classes, known in (
        (GIVEN, ["1", "0"], True),
        (GIVEN, ["0"], True),
        (GIVEN, ["0", "2"], False),
        (trained(), ["anything"], True),
        ({"kind": "stable_diffusion"}, ["anything"], True),
    ):
        assert refused(limits.check_classes, "k", denoiser, classes) is not known
