"""The papers' numbers, and which of our cells they may stand beside."""

import csv
import io

KEY = ("dataset", "method", "ipc", "student", "labels")
# What RDED's tables have in common (its supplement, section C; scripts/ of LINs-lab/RDED).
RDED_SCORES = {"crops_per_image": 5, "images_per_class": 300, "crop": [0.08, 1.0]}
CONVNET = {"width": 128, "norm": "batch"}
PATCHES_FROM = 128  # px; smaller images are one patch


def read(paths):
    """Return {(dataset, method, ipc, student, labels): (accuracy, std)} from the papers' CSVs."""
    numbers = {}
    for path in paths:
        for row in csv.DictReader(io.StringIO(path.read_text())):
            deviation = float(row["std"]) if row["std"] else None
            numbers[tuple(row[name] for name in KEY)] = (float(row["accuracy"]), deviation)
    return numbers


def beside(numbers, identity, spec):
    """Return (accuracy, std) that a paper has for a cell, (None, None) if it has none.

    A number stands beside what its paper describes only: not beside ablations, narrower networks,
    or a test on held-out training images.

    Parameters
    ----------
    numbers : dict
        As `read` returns it.
    identity : dict
        The cell's.
    spec : dict
        Of the cell's artifact.
    """
    # The papers' soft labels are ours whether they were stored or made online.
    labels = "hard" if identity["labels"] == "hard" else "soft"
    key = (*(str(identity[k]) for k in ("dataset", "kind", "ipc", "arch")), labels)
    return numbers.get(key, (None, None)) if _as_described(spec) else (None, None)


def _as_described(spec):
    network, made = spec["settings"]["network"], spec["upstream"]["distilled"]
    if network["arch"].startswith("convnet") and any(network[k] != v for k, v in CONVNET.items()):
        return False
    if made["upstream"]["images"]["upstream"]["index"]["settings"]["holdout"]:
        return False
    return made["settings"]["kind"] != "rded" or _as_rded(made)


def _as_rded(made):
    settings, scores = made["settings"], made["upstream"]["scores"]["settings"]
    if "selection" in settings or settings["patches_per_image"] != 1:
        return False
    if settings["patches_per_side"] != 1 + (settings["resolution"] >= PATCHES_FROM):
        return False
    return all(scores[name] == value for name, value in RDED_SCORES.items())
