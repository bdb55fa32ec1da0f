import math

import pandas as pd
import pytest
from stillhouse.reporting import comparisons, markup, table_layout

from tests.reporting.fakes import frame


def cells(method, protocol, mean, kind=None, **changes):
    """Return three students under a protocol, with this mean accuracy."""
    labels = "soft" if protocol.startswith("soft") else "hard"
    twin = "hard-plain" if protocol == "hard" else ""
    parts = {"hard_protocol": "hard", "twin": twin, "labels": labels, **changes}
    rows = frame(method=method, kind=kind or method, protocol=protocol, **parts)
    return rows.assign(accuracy=[mean - 1, mean, mean + 1], accuracy_best=99.0)


def experiment():
    """Return cells of random and RDED under three protocols, and of full data under one."""
    return pd.concat(
        [
            cells("random", "soft", 60.0),
            cells("random", "hard", 50.0),
            cells("random", "hard-plain", 40.0),
            cells("rded", "soft", 70.0),
            cells("rded", "hard", 55.0),
            cells("rded", "hard-plain", 42.0),
            cells("full data, 30 epochs", "hard", 95.0, "full_data"),
            cells("full data, matched", "hard", 80.0, "full_data"),
        ],
        ignore_index=True,
    )


def of(frame, method, protocol):
    rows = frame[(frame["method"] == method) & (frame["protocol"] == protocol)]
    values = {tuple(row) for row in rows[list(comparisons.SCORES)].round(6).to_numpy().tolist()}
    (value,) = {tuple("–" if math.isnan(x) else x for x in row) for row in values}
    return value


def normalised(value):
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def test_scores_are_of_the_parts_by_hand():
    scored = comparisons.with_scores(experiment())
    # HLR 0.95 - 0.55, IOR 0.70 - 0.60: α = 0.05 - 0.20.
    assert of(scored, "rded", "soft") == (0.4, 0.1, pytest.approx(normalised(-0.15), abs=1e-6), "–")
    # IOR 0.05: α = 0.025 - 0.20; β = 0.025 + 0.5 · 0.02.
    lrs, ars = normalised(-0.175), normalised(0.035)
    assert of(scored, "rded", "hard") == pytest.approx((0.4, 0.05, lrs, ars), abs=1e-6)
    # Random images: no improvement; they recover 0.5 of 0.95.
    lrs, ars = normalised(-0.225), normalised(0)
    assert of(scored, "random", "hard") == pytest.approx((0.45, 0.0, lrs, ars), abs=1e-6)


def test_full_data_and_twins_have_no_scores():
    scored = comparisons.with_scores(experiment())
    assert of(scored, "rded", "hard-plain") == ("–",) * 4
    assert of(scored, "full data, 30 epochs", "hard") == ("–",) * 4


def test_the_first_budget_of_full_data_is_that_of_the_scores():
    frame = experiment()
    first = frame["method"] == "full data, 30 epochs"
    frame = pd.concat([frame[~first], frame[first]], ignore_index=True)
    assert of(comparisons.with_scores(frame), "rded", "hard")[0] == pytest.approx(0.25)


def test_matched_full_data_are_compared_at_the_same_ipc():
    other = experiment().assign(ipc=1)
    other.loc[other["kind"] == "full_data", ["accuracy"]] -= 30.0
    scored = comparisons.with_scores(pd.concat([experiment(), other], ignore_index=True))
    assert of(scored[scored["ipc"] == 1], "rded", "hard")[0] == pytest.approx(0.1)
    assert of(scored[scored["ipc"] == 10], "rded", "hard")[0] == pytest.approx(0.4)


def test_the_reported_accuracy_is_scored():
    frame = experiment()
    frame.loc[frame["protocol"] == "soft", "report"] = "best"
    assert of(comparisons.with_scores(frame), "rded", "soft")[1] == 0.0


def without(**columns):
    """Return the experiment without the rows that have a value in a column."""
    rows = experiment()
    for name, value in columns.items():
        rows = rows[rows[name] != value]
    return rows


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        (without(kind="full_data"), "HLR (no full_data), LRS (no full_data)"),
        (without(kind="random"), "IOR (no random images), LRS (no random images), ARS (no random"),
        (experiment().assign(hard_protocol=""), "HLR (several protocols with hard labels: set"),
        (experiment().assign(twin=""), "ARS (no twin without augmentation"),
    ],
    ids=["full data", "random", "hard protocol", "twin"],
)
def test_a_missing_part_is_named_and_gives_no_number(rows, missing):
    scored = comparisons.with_scores(rows)
    notes = comparisons.score_notes(scored)
    (note,) = [note for note in notes if note.startswith("Scores under hard:")]
    assert f"missing: {missing}" in note
    for part in missing.split("), "):
        assert scored.loc[scored["protocol"] == "hard", part[:3].lower()].isna().all()


def test_students_that_diverged_are_the_reason_of_a_missing_score():
    rows = experiment()
    rows.loc[(rows["method"] == "rded") & (rows["protocol"] == "hard"), "accuracy"] = math.nan
    scored = comparisons.with_scores(rows)
    (note,) = [n for n in comparisons.score_notes(scored) if n.startswith("Scores under hard:")]
    assert "HLR (students that diverged)" in note
    assert of(scored, "random", "hard")[0] == pytest.approx(0.45)


def test_notes_define_the_scores_and_name_their_parts():
    notes = comparisons.score_notes(comparisons.with_scores(experiment()))
    assert any("HLR is against `full data, 30 epochs`" in note for note in notes)
    assert "Scores under hard: HLR under hard, ARS with hard-plain, without augmentation." in notes
    assert not any(note.startswith("Scores under hard-plain") for note in notes)


def test_an_experiment_without_references_has_neither_columns_nor_notes():
    rows = without(kind="full_data").assign(twin="")
    scored = comparisons.with_scores(rows)
    assert comparisons.score_notes(scored) == []
    assert "IOR" not in markup.markdown(scored, [])


def test_the_table_has_scores_and_full_data():
    scored = comparisons.with_scores(experiment())
    (section,) = table_layout.sections(scored)
    head, *rows = section.only("set", "accuracy", "scores")
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert table["rded"]["HLR"] == "0.400"
    assert table["rded"]["LRS, soft"] == f"{normalised(-0.15):.3f}"
    assert table["full data, 30 epochs"] == {
        **dict.fromkeys(head, "–"),
        "method": "full data, 30 epochs",
        "IPC": "all",
        "hard [%]": "95.0 ± 1.0",
    }
    assert table["full data, matched"]["IPC"] == "10"
    assert "ARS, soft" not in head and "LRS, hard-plain" not in head


def test_full_data_for_every_ipc_are_one_row():
    rows = pd.concat([experiment(), experiment().assign(ipc=1)], ignore_index=True)
    (section,) = table_layout.sections(comparisons.with_scores(rows))
    names = [(row[0], row[1]) for row in section.only("set")[1:]]
    assert names.count(("full data, 30 epochs", "all")) == 1
    assert [ipc for name, ipc in names if name == "full data, matched"] == ["1", "10"] or [
        ipc for name, ipc in names if name == "full data, matched"
    ] == ["10", "1"]
