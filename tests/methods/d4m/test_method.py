"""D4M denoises at least one step of the grid."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.errors import StillhouseError
from stillhouse.methods.d4m.method import D4M


@given(steps=st.integers(2, 100), strength=st.floats(0.001, 1.0))
def test_a_valid_strength_leaves_a_step(steps, strength):
    settings = {"steps": steps, "strength": strength}
    # As many steps as in image-to-image pipelines.
    if torch.arange(steps)[steps - int(steps * strength) :].numel():
        D4M().check("k", settings, {})
        return
    with pytest.raises(
        StillhouseError, match=r"^k\.strength: must be at least one of .* raise strength"
    ):
        D4M().check("k", settings, {})


def test_a_full_fit_has_no_chunks():
    (unused,) = D4M().unused({"fit": "full"})
    assert (unused.names, unused.reason) == ({"expand"}, "fit: full")
    assert D4M().unused({"fit": "partial"}) == []
