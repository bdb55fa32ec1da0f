"""DD-Ranking's scores of a distilled set, of accuracies as shares in [0, 1].

Li et al., *DD-Ranking: Rethinking the Evaluation of Dataset Distillation*, 2025; code
NUS-HPC-AI-Lab/DD-Ranking.
"""

import math

# w of the label-robust score and γ of the augmentation-robust score: both parts count alike.
WEIGHT = 0.5


def hard_label_recovery(real, own):
    """Return HLR = Acc(real, hard) - Acc(set, hard): what hard labels lose by distillation."""
    return real - own


def improvement_over_random(own, random):
    """Return IOR = Acc(set, any) - Acc(random, any), both with the same labels."""
    return own - random


def label_robust_score(improvement, recovery, weight=WEIGHT):
    """Return LRS, in [0, 1], of α = w IOR - (1 - w) HLR."""
    return normalised(weight * improvement - (1 - weight) * recovery)


def augmentation_robust_score(augmented, plain, weight=WEIGHT):
    """Return ARS, in [0, 1], of β = γ IOR(augmented) + (1 - γ) IOR(not augmented)."""
    return normalised(weight * augmented + (1 - weight) * plain)


def normalised(value):
    """Return (e^x - e^-1) / (e - e^-1), which maps [-1, 1] to [0, 1]; 0 to 0.269."""
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))
