"""Comparisons of an experiment's sets: differences to the baseline, and DD-Ranking's scores."""

import math

import pandas as pd

from stillhouse.config.references import FULL_DATA
from stillhouse.evaluation import differences, scores
from stillhouse.reporting import table_layout

SCORES = ("hlr", "ior", "lrs", "ars")
TITLES = {"hlr": "HLR", "ior": "IOR", "lrs": "LRS", "ars": "ARS"}


def to_baseline(cells, baseline):
    """Return the `differences.Difference` of a method to the baseline; None without a pair.

    Over the students of one set, or over the sets of several distill seeds. This is the one
    criterion of leaderboards and notes for ties.

    Parameters
    ----------
    cells, baseline : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.read` of two methods, under one protocol, for one
        student and IPC.
    """
    own, other = accuracies(cells), accuracies(baseline)
    pairs = [(own[seed], other[seed]) for seed in own if seed in other]
    if len(pairs) > 1:
        return differences.over_sets(pairs)
    return differences.over_students(*pairs[0]) if pairs else None


def accuracies(cells):
    """Return {distill seed: reported accuracies by student seed [%]} of a method's cells."""
    reported = cells.assign(reported=table_layout.reported_accuracy(cells))
    by_set = reported.set_index("seed").groupby("distill_seed", sort=False)["reported"]
    return dict(list(by_set))


def with_scores(frame):
    """Return a frame of cells with the scores of their sets in the columns `SCORES`.

    Of means over student seeds. NaN where a part is missing, for full data, and for a protocol that
    is the twin of another, whose scores it is a part of.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `stillhouse.reporting.tables.cell_row`.
    """
    parts = _Parts(frame)
    keys = list(frame[table_layout.SET].itertuples(index=False, name=None))
    of_set = {key: parts.scores(*key) for key in dict.fromkeys(keys)}
    return frame.assign(**{name: [of_set[key][name] for key in keys] for name in SCORES})


class _Parts:
    """The accuracies that scores are made of, as shares."""

    def __init__(self, frame):
        reported = frame.assign(reported=table_layout.reported_accuracy(frame).astype(float))
        means = reported.groupby(table_layout.SET, sort=False)["reported"].mean() / 100
        self.means = means.to_dict()
        self.baseline = table_layout.baseline(frame)
        self.full = next(iter(frame.loc[frame["kind"] == FULL_DATA, "method"]), None)
        self.full_means = {
            (student, ipc, protocol): mean
            for (student, method, _, ipc, protocol), mean in self.means.items()
            if method == self.full
        }
        self.kinds = dict(zip(frame["method"], frame["kind"], strict=True))
        self.hard = dict(zip(frame["protocol"], frame["hard_protocol"], strict=True))
        self.twins = dict(zip(frame["protocol"], frame["twin"], strict=True))

    def scores(self, student, method, seed, ipc, protocol):
        """Return the scores of a set under a protocol, {name: share}."""
        if self.kinds[method] == FULL_DATA or protocol in self.twins.values():
            return dict.fromkeys(SCORES, math.nan)

        def gain(under):
            own, random = (
                self.means.get((student, name, seed, ipc, under), math.nan)
                for name in (method, self.baseline)
            )
            return scores.improvement_over_random(own, random)

        hard = self.hard[protocol]
        recovery = scores.hard_label_recovery(
            self.full_means.get((student, ipc, hard), math.nan),
            self.means.get((student, method, seed, ipc, hard), math.nan),
        )
        improvement, plain = gain(protocol), gain(self.twins[protocol])
        return {
            "hlr": recovery,
            "ior": improvement,
            "lrs": scores.label_robust_score(improvement, recovery),
            "ars": scores.augmentation_robust_score(improvement, plain),
        }


def are_wanted(frame):
    """Return whether an experiment has full data or a twin, which only scores need."""
    return bool((frame["kind"] == FULL_DATA).any() or (frame["twin"] != "").any())


def score_notes(frame):
    """Return the notes on the scores, as sentences: definition, parts, and missing parts.

    Parameters
    ----------
    frame : pandas.DataFrame
        With the columns of `with_scores`.
    """
    if not are_wanted(frame):
        return []
    sets = table_layout.of_sets(frame)
    scored = sets[~sets["protocol"].isin(sets["twin"])]
    notes = [
        "HLR, IOR, LRS, ARS: DD-Ranking's scores, as shares, of means over student seeds; LRS and "
        "ARS with both weights 0.5.",
        *_full_data_notes(frame),
    ]
    for protocol, cells in scored.groupby("protocol", sort=False):
        hard, twin = cells["hard_protocol"].iloc[0], cells["twin"].iloc[0]
        reasons = _reasons(frame, hard, twin)
        missing = [
            f"{TITLES[name]} ({reasons.get(name) or 'students that diverged'})"
            for name in SCORES
            if cells[name].isna().any()
        ]
        parts = [
            *([f"HLR under {hard}"] if cells["hlr"].notna().any() else []),
            *([f"ARS with {twin}, without augmentation"] if cells["ars"].notna().any() else []),
        ]
        sentences = [", ".join(parts), f"missing: {', '.join(missing)}" if missing else ""]
        notes.append(f"Scores under {protocol}: {'; '.join(filter(None, sentences))}.")
    return notes


def _full_data_notes(frame):
    full = frame[frame["kind"] == FULL_DATA]
    if full.empty:
        return []
    first = full["method"].iloc[0]
    matched = (
        " Matched: in all epochs together as many images as with a set of the IPC, other ones in "
        "every epoch."
        if full["method"].str.endswith("matched").any()
        else ""
    )
    return [
        "Full data: students trained on all training images with hard labels, by the protocol; "
        f"HLR is against `{first}`.{matched}"
    ]


def _reasons(frame, hard, twin):
    """Return {score: reason of its absence}."""
    no_full, reasons = not (frame["kind"] == FULL_DATA).any(), {}
    if table_layout.baseline(frame) is None:
        reasons = dict.fromkeys(("ior", "lrs", "ars"), "no random images")
    if not twin:
        reasons.setdefault("ars", "no twin without augmentation")
    if not hard:
        several = (frame["labels"] == "hard").any()
        reason = "several protocols with hard labels: set hard_protocol"
        reason = reason if several else "no protocol with hard labels"
    else:
        reason = "no full_data" if no_full else ""
    if reason:
        reasons = {"lrs": reason, **reasons, "hlr": reason}
    return reasons


def mean_scores(cells):
    """Return {score: mean over the sets of a method under one protocol}."""
    of_sets = pd.DataFrame(cells).groupby("distill_seed")[list(SCORES)].first()
    return of_sets.mean(skipna=False).to_dict()
