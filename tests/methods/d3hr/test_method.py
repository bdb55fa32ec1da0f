"""D3HR samples from a snapshot inside the grid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillhouse.errors import StillhouseError
from stillhouse.methods.d3hr.method import D3HR


def check(steps, start, snapshots):
    method = D3HR()
    settings = {"steps": steps, "inversion_steps": start}
    if snapshots:
        settings["snapshots"] = snapshots
    method.check("k", method.decide(settings), {})


@given(
    steps=st.integers(2, 50),
    start=st.integers(1, 60),
    snapshots=st.lists(st.integers(1, 60), max_size=3, unique=True),
)
def test_sampling_starts_at_a_snapshot_below_the_last_step(steps, start, snapshots):
    # The code's first call is at grid[start].
    if start in (snapshots or [start]) and max([start, *snapshots]) < steps:
        check(steps, start, snapshots)
        return
    with pytest.raises(StillhouseError) as caught:
        check(steps, start, snapshots)
    message = str(caught.value)
    assert message.startswith(("k.snapshots: ", "k.inversion_steps: ")) and "; " in message


def test_the_setting_to_change_is_named():
    for snapshots, message in (
        ([20, 30], r"k\.snapshots: missing inversion_steps, 31, in \[20, 30\]; add it"),
        ([31, 50], r"k\.snapshots: must be less than steps, 50, not 50; lower it"),
    ):
        with pytest.raises(StillhouseError, match=f"^{message}"):
            check(50, 31, snapshots)
    with pytest.raises(StillhouseError, match=r"^k\.inversion_steps: must be less than steps, 30"):
        check(30, 31, [])


def test_snapshots_are_in_order_and_one_by_default():
    assert D3HR().decide({"inversion_steps": 4})["snapshots"] == [4]
    assert D3HR().decide({"inversion_steps": 4, "snapshots": [9, 4]})["snapshots"] == [4, 9]


def test_statistics_give_any_number_of_images():
    assert D3HR.unlimited
