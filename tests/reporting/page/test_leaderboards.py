import math

import pandas as pd
import pytest
from stillhouse.reporting.page import leaderboards

from tests.reporting.fakes import frame


def rows(accuracies, **changes):
    """Return cells of methods with three accuracies each."""
    parts = []
    for method, values in accuracies.items():
        part = frame(method=method, kind=method, **changes)
        part["accuracy"] = part["accuracy_best"] = values
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


ACCURACIES = {
    "random": [60.0, 61.0, 62.0],
    "rded": [70.0, 71.0, 72.5],
    "d3hr": [60.5, 60.5, 62.0],
    "dm": [50.0, 51.0, 52.0],
}


def test_sets_are_ranked_by_accuracy():
    (board,) = leaderboards.boards(rows(ACCURACIES))
    assert [(row.rank, row.name, row.place) for row in board.rows] == [
        (1, "rded", "best"),
        (2, "random", "second"),
        (2, "d3hr", "second"),
        (4, "dm", ""),
    ]
    assert board.baseline == "random"


def test_differences_are_to_random_and_ties_are_ties():
    (board,) = leaderboards.boards(rows(ACCURACIES))
    of = {row.name: row.difference for row in board.rows}
    assert of["random"] is None
    assert of["rded"].mean == pytest.approx(10 + 1 / 6) and not of["rded"].is_tie
    assert of["d3hr"].mean == pytest.approx(0.0) and of["d3hr"].is_tie
    assert of["dm"].mean == -10.0


def test_there_is_a_board_per_student_ipc_and_protocol():
    cells = pd.concat(
        [
            rows(ACCURACIES, ipc=1),
            rows(ACCURACIES, ipc=10),
            rows(ACCURACIES, ipc=10, protocol="hard", labels="hard"),
            rows(ACCURACIES, ipc=10, student="other"),
        ],
        ignore_index=True,
    )
    boards = leaderboards.boards(cells)
    assert [(board.student, board.ipc, board.protocol) for board in boards] == [
        ("s", 1, "soft"),
        ("s", 10, "soft"),
        ("s", 10, "hard"),
        ("other", 10, "soft"),
    ]


def two_sets():
    """Return cells of two distill seeds: RDED exceeds random by 10, and by 1."""
    cells = [
        rows({"random": [60.0, 61.0, 62.0], "rded": [70.0, 71.0, 72.0]}, seconds_train=6.0),
        rows({"random": [50.0] * 3, "rded": [51.0] * 3}, distill_seed=1, seconds_train=8.0),
    ]
    return pd.concat(cells, ignore_index=True)


def test_a_set_is_compared_with_the_random_set_of_its_distill_seed():
    (board,) = leaderboards.boards(two_sets())
    of = {row.name: row.difference for row in board.sets}
    assert of["rded (seed 0)"].mean == pytest.approx(10.0)
    assert of["rded (seed 1)"].mean == 1.0
    assert {one.over for one in of.values() if one} == {"students"}


def test_a_method_with_several_sets_has_one_row_with_an_interval_over_sets():
    (board,) = leaderboards.boards(two_sets())
    assert [(row.rank, row.name, row.n_sets) for row in board.rows] == [
        (1, "rded", 2),
        (2, "random", 2),
    ]
    first = board.rows[0]
    # By hand: means of the sets 71 and 51, differences 10 and 1, t(0.975, 1) · 6.364 / √2.
    assert first.mean == 61.0
    assert first.std == pytest.approx(14.142136)
    assert (first.difference.mean, first.difference.over) == (5.5, "sets")
    assert first.difference.high == pytest.approx(5.5 + 12.7062 * 4.5, abs=1e-3)
    assert first.difference.is_tie
    assert first.seconds == 3 + 4 + 5 + 7


def test_one_set_per_method_has_no_second_board():
    (board,) = leaderboards.boards(rows(ACCURACIES))
    assert board.sets == [] and {row.n_sets for row in board.rows} == {1}


def test_full_data_are_below_the_methods_without_rank_and_difference():
    full = rows({"full data, matched": [90.0, 91.0, 92.0]}, labels="hard", protocol="hard")
    full["kind"] = "full_data"
    sets = rows(ACCURACIES, labels="hard", protocol="hard")
    cells = pd.concat([sets, rows(ACCURACIES), full], ignore_index=True)
    hard, soft = leaderboards.boards(cells)
    (row,) = hard.full_data
    assert (row.name, row.mean, row.rank, row.difference) == ("full data, matched", 91.0, 0, None)
    assert [one.rank for one in hard.rows] == [1, 2, 2, 4]
    assert soft.full_data == []


def test_boards_have_the_scores_that_a_row_has():
    (board,) = leaderboards.boards(rows(ACCURACIES, lrs=0.25))
    assert board.scores == ["lrs"]
    assert {row.scores["lrs"] for row in board.rows} == {0.25}
    (board,) = leaderboards.boards(rows(ACCURACIES))
    assert board.scores == []


def test_bytes_and_seconds_are_of_everything_that_a_row_needs():
    (board,) = leaderboards.boards(rows({"rded": [60.0] * 3}))
    (row,) = board.rows
    assert board.baseline is None and row.difference is None
    assert row.n_bytes == 12_345 + 678_900
    assert row.seconds == 3 + 4 + 5 + 6
    (board,) = leaderboards.boards(rows({"rded": [60.0] * 3}, label_bytes=math.nan))
    assert math.isnan(board.rows[0].n_bytes)


def test_a_set_whose_students_all_diverged_has_no_rank_and_is_last():
    cells = rows({"rded": [math.nan] * 3, "random": [60.0] * 3})
    (board,) = leaderboards.boards(cells)
    assert [(row.name, row.rank, row.note) for row in board.rows] == [
        ("random", 1, ""),
        ("rded", 0, "3 of 3 diverged"),
    ]


def test_published_numbers_are_beside_their_accuracy():
    (board,) = leaderboards.boards(rows({"rded": [60.0] * 3}, published=50.25))
    assert board.rows[0].note == "published 50.2"
