import math

import pytest
from stillhouse.evaluation import scores


def test_scores_by_hand():
    # Real images 0.95, a set 0.55 under hard labels; 0.70 under soft ones, random images 0.60.
    recovery = scores.hard_label_recovery(0.95, 0.55)
    improvement = scores.improvement_over_random(0.70, 0.60)
    assert (recovery, improvement) == pytest.approx((0.40, 0.10))
    # α = 0.5 · 0.10 - 0.5 · 0.40 = -0.15; (0.860708 - 0.367879) / (2.718282 - 0.367879).
    assert scores.label_robust_score(improvement, recovery) == pytest.approx(0.209679, abs=1e-6)
    # β = 0.5 · 0.10 + 0.5 · 0.02 = 0.06; (1.061837 - 0.367879) / 2.350402.
    assert scores.augmentation_robust_score(0.10, 0.02) == pytest.approx(0.295251, abs=1e-6)


def test_weights_select_a_part():
    assert scores.label_robust_score(0.3, 0.8, weight=1) == scores.normalised(0.3)
    assert scores.label_robust_score(0.3, 0.8, weight=0) == scores.normalised(-0.8)
    assert scores.augmentation_robust_score(0.3, 0.8, weight=1) == scores.normalised(0.3)


def test_scores_are_between_zero_and_one():
    assert scores.normalised(-1) == 0
    assert scores.normalised(1) == 1
    # (1 - 1 / e) / (e - 1 / e)
    assert scores.normalised(0) == pytest.approx(0.268941, abs=1e-6)


def test_a_missing_part_gives_no_number():
    assert math.isnan(scores.label_robust_score(math.nan, 0.1))
    assert math.isnan(scores.augmentation_robust_score(0.1, math.nan))
