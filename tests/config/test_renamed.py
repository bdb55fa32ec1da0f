"""Messages about renamed keys and values have the new names."""

import pytest
from stillhouse.config import renamed


@pytest.mark.parametrize(
    ("path", "key", "hint"),
    [
        (["methods", "edc"], "turns", "renamed to 'observer_order'"),
        (["methods", "any name"], "weights", "renamed to 'loss_weights'"),
        (
            ["methods", "edc"],
            "tiles",
            "renamed to 'tile_statistics' (right is now correct)",
        ),
        (["methods", "edc", "flatness"], "on", "renamed to 'kind'"),
        # YAML loads a plain on as a truth value.
        (["methods", "edc", "flatness"], True, "renamed to 'kind'"),
        (
            ["methods", "d3hr"],
            "process",
            "renamed to 'noising' (inversion is now ddim_inversion, diffusion is now forward)",
        ),
        # An experiment's override.
        (["experiments", "x", "methods", 0, "edc"], "jitter", "renamed to 'shift'"),
        (["experiments", "x", "methods", 1, "edc", "flatness"], True, "renamed to 'kind'"),
        (["experiments", "x", "methods", 0], "jitter", ""),
        (["experiments", "x"], "jitter", ""),
        (["denoisers", "dit"], "labels", "renamed to 'class_labels'"),
        (["labels", "soft", "views"], "jitte", ""),
        (["teachers", "t"], "turns", ""),
        ([], "turns", ""),
    ],
)
def test_an_old_key_has_its_new_name(path, key, hint):
    assert renamed.hint(path, key) == hint


def test_a_new_name_that_the_object_cannot_have_is_no_remedy():
    assert renamed.hint(["methods", "r"], "features", {"teacher", "crop"}) == ""
    assert renamed.hint(["methods", "h"], "features", {"feature_space"})


@pytest.mark.parametrize(
    ("path", "value", "hint"),
    [
        (["methods", "d3hr", "noising"], "diffusion", "renamed to 'forward'"),
        (
            ["experiments", "x", "methods", 0, "d3hr", "noising"],
            "diffusion",
            "renamed to 'forward'",
        ),
        (["protocols", "soft", "test_crop"], "whole", "renamed to 'center_square'"),
        (["protocols", "soft", "test_crop"], "center_square", ""),
        (["protocols", "soft", "test_crop"], [], ""),
        (["teachers", "t", "arch"], "whole", ""),
    ],
)
def test_an_old_value_has_its_new_name(path, value, hint):
    assert renamed.value_hint(path, value) == hint
