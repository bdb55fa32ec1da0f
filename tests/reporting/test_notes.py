import pandas as pd
import pytest
from stillhouse.methods import registry
from stillhouse.reporting import notes
from stillhouse.reporting.page import leaderboards

from tests.reporting.fakes import frame


def rows(means, deviation=1.0, **changes):
    """Return cells of methods under a soft protocol: three seeds of this mean and deviation.

    Deviations of random have the opposite order, so that differences deviate by twice as much.
    """
    parts = []
    for method, mean in means.items():
        part = frame(method=method, kind=method, **changes)
        sign = -1 if method == "random" else 1
        part["accuracy"] = [mean - sign * deviation, mean, mean + sign * deviation]
        parts.append(part.assign(accuracy_best=part["accuracy"]))
    return pd.concat(parts, ignore_index=True)


def with_hard(cells):
    hard = cells.assign(protocol="plain", labels="hard", accuracy=cells["accuracy"] - 30)
    return pd.concat([cells, hard], ignore_index=True)


def selection(*of_ipc, **changes):
    """Return the note on a protocol whose students of each IPC have (count, first, last) tests."""
    names = ("n_tests", "first_test", "last_test")
    parts = [
        frame(ipc=ipc, **dict(zip(names, tests, strict=True)), **{"report": "best", **changes})
        for ipc, tests in enumerate(of_ipc, 1)
    ]
    return notes.accuracy_notes(pd.concat(parts, ignore_index=True))[0]


def test_the_tests_that_an_accuracy_is_the_best_of_are_stated():
    start = "soft: soft labels (float16) of t; "
    expected = f"{start}best of 30 tests on the test split, after epochs 10 to 300."
    assert selection((30, 10, 300)) == selection((30, 10, 300), (30, 10, 300)) == expected
    # Epochs, and so tests, may depend on the IPC.
    expected = f"{start}best of 9 to 30 tests on the test split."
    assert selection((30, 10, 300), (9, 292, 300)) == expected
    expected = f"{start}best of 30 tests on the test split."
    assert selection((30, 10, 300), (30, 20, 600)) == expected


def test_tests_of_full_data_are_not_those_of_sets():
    sets = frame(n_tests=6, first_test=250, last_test=300, report="best")
    full = frame(kind="full_data", n_tests=1, first_test=30, last_test=30, report="best")
    (note, *_) = notes.accuracy_notes(pd.concat([sets, full], ignore_index=True))
    assert note.endswith("best of 6 tests on the test split, after epochs 250 to 300.")
    (note, *_) = notes.accuracy_notes(full)
    assert note.endswith("after the last epoch.")


def test_the_best_of_one_test_is_that_of_the_last_epoch():
    for note in (selection((1, 300, 300)), selection((30, 10, 300), report="last")):
        assert note == "soft: soft labels (float16) of t; after the last epoch."
    assert "best of 1 to 2 tests" in selection((1, 300, 300), (2, 200, 400))


# Differences deviate by 2: the interval's half-width is 4.302653 · 2 / √3 = 4.968.
def test_saturation_is_noted():
    cells = with_hard(rows({"random": 90.0, "rded": 94.9, "d3hr": 85.1}))
    assert notes.saturation_notes(cells) == [
        "At IPC 10, soft, student s: all methods tie with `random` (95 % intervals of the paired "
        "differences, over students). Soft labels saturate here; compare under plain."
    ]


def test_without_hard_labels_no_protocol_is_recommended():
    (note,) = notes.saturation_notes(rows({"random": 90.0, "rded": 90.0}))
    assert note.endswith("Soft labels saturate here.")


def test_methods_below_random_images_are_named():
    (note,) = notes.saturation_notes(
        rows({"random": 90.0, "rded": 85.0, "d3hr": 91.0, "d4m": 80.0})
    )
    assert "no method exceeds `random` (95 % intervals" in note
    assert "over students; below it: rded, d4m)" in note


def test_the_banner_has_the_criterion_of_the_leaderboard():
    for mean in (94.9, 95.0):
        cells = rows({"random": 90.0, "rded": mean})
        (board,) = leaderboards.boards(cells)
        (row,) = [row for row in board.rows if row.name == "rded"]
        assert bool(notes.saturation_notes(cells)) == row.difference.is_tie == (mean < 95)


def test_with_several_sets_saturation_is_over_sets():
    # Means of the pairs of sets differ by 4 and 6: 5 ± 12.7062.
    sets = [rows({"random": 90.0, "rded": 94.0}), rows({"random": 90.0, "rded": 96.0})]
    cells = pd.concat([sets[0], sets[1].assign(distill_seed=1)], ignore_index=True)
    (note,) = notes.saturation_notes(cells)
    assert "paired differences, over sets)" in note
    assert notes.saturation_notes(sets[1]) == []


@pytest.mark.parametrize(
    "cells",
    [
        rows({"random": 90.0, "rded": 90.0, "d3hr": 95.0}),
        rows({"random": 90.0}),
        rows({"rded": 90.0, "d3hr": 90.0}),
        rows({"random": 90.0, "rded": 90.0})[lambda cells: cells["seed"] == 0],
        rows({"random": 90.0, "rded": 90.0}, protocol="plain", labels="hard"),
    ],
    ids=["one exceeds it", "no other", "no random images", "one seed", "hard labels"],
)
def test_results_without_saturation_have_no_note(cells):
    assert notes.saturation_notes(cells) == []


def test_every_baseline_is_one_by_its_class(monkeypatch):
    cells = rows({"herding": 90.0, "rded": 90.0})
    assert notes.saturation_notes(cells) == []
    monkeypatch.setattr(registry.method("herding"), "baseline", True)
    (note,) = notes.saturation_notes(cells)
    assert "all methods tie with `herding`" in note


def test_statistics_of_a_method_are_explained_once_by_its_note(monkeypatch):
    stored = rows({"d3hr": 90.0, "rded": 90.0}, statistics_bytes=12.0)
    expected = registry.method("d3hr").statistics_note
    assert expected.startswith("Statistics: mean and variance per class, ")
    found = notes.cost_notes(stored)
    assert found.count(expected) == 1 and "" not in found
    assert expected not in notes.cost_notes(rows({"d3hr": 90.0}))
    monkeypatch.setattr(registry.method("rded"), "statistics_note", "Statistics: others.")
    assert {expected, "Statistics: others."} <= set(notes.cost_notes(stored))


def test_devices_of_all_sets_are_stated_once():
    cells = [frame(devices="gpu; abacus"), frame(devices="gpu"), frame(devices="")]
    *_, note = notes.cost_notes(pd.concat(cells))
    assert note.startswith("Seconds on abacus; gpu: compute time of the full lineage")
    *_, note = notes.cost_notes(cells[-1])
    assert note.startswith("Seconds on an unknown device: ")


def test_sets_made_elsewhere_are_noted():
    note = "Sets that were made elsewhere have no seconds of distillation."
    assert note in notes.cost_notes(rows({"random": 90.0, "given": 90.0}))
    assert note not in notes.cost_notes(rows({"random": 90.0}))


def test_only_the_largest_ipc_counts():
    few = rows({"random": 50.0, "rded": 50.0}, ipc=1)
    many = rows({"random": 90.0, "rded": 99.0})
    assert notes.saturation_notes(pd.concat([few, many])) == []
    (note,) = notes.saturation_notes(pd.concat([few, many.assign(ipc=0)]))
    assert note.startswith("At IPC 1,")


def test_notes_are_per_student_and_protocol():
    like, above = {"random": 90.0, "rded": 90.0}, {"random": 90.0, "rded": 99.0}
    cells = [
        rows(like, student="a"),
        rows(above, student="b"),
        rows(above, student="a", protocol="online", labels="online"),
        rows(like, student="b", protocol="online", labels="online"),
    ]
    starts = [note.split(":")[0] for note in notes.saturation_notes(pd.concat(cells))]
    assert starts == ["At IPC 10, soft, student a", "At IPC 10, online, student b"]


def test_saturation_is_computed_from_the_reported_accuracy():
    cells = rows({"random": 90.0, "rded": 90.0}, report="best")
    cells.loc[cells["method"] == "rded", "accuracy_best"] += 5
    assert notes.saturation_notes(cells) == []
    assert notes.saturation_notes(cells.assign(report="last"))
