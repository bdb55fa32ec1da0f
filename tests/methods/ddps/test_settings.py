import pytest
from stillhouse.methods.ddps.settings import patches_per_side


@pytest.mark.parametrize(
    "variant, ipc, patch, side",
    [
        ("auto", 1, 224, 2),
        ("auto", 10, 224, 2),
        ("auto", 11, 224, 1),
        ("auto", 50, 224, 1),
        ("auto", 10, 0, 1),
        ("concat", 50, 224, 2),
        ("concat", 1, 0, 2),
        ("single", 1, 224, 1),
    ],
)
def test_patches_are_concatenated_up_to_ipc_10(variant, ipc, patch, side):
    assert patches_per_side(variant, ipc, patch) == side
