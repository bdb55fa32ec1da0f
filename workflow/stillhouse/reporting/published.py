"""The papers' numbers, and which of our cells they may stand beside."""

import csv
import io
from typing import NamedTuple

KEY = ("dataset", "method", "ipc", "student", "labels")
# What RDED's tables have in common (its supplement, section C; scripts/ of LINs-lab/RDED).
RDED_SCORES = {"crops_per_image": 5, "images_per_class": 300, "crop": [0.08, 1.0]}
CONVNET = {"width": 128, "norm": "batch"}
PATCHES_FROM = 128  # px; smaller images are one patch
OBSERVERS = (["torchvision/resnet18"], ["resnet18_modified"])

# D3HR: figure 5 and appendix B; guidance and grid are those of its code (inversion and sampling).
D3HR_INVERSION = {"steps": 50, "guidance": 4.0, "latents": "sample", "process": "inversion"}
D3HR_DECODED = {"steps": 50, "guidance": 4.0, "inversion_steps": 31}
D3HR_SAMPLES = {"snapshot": 31, "sampler": "search", "variance": 1.0}
D3HR_SKEWNESS = (0.5, 0.1)  # weight of the third term: table A11, and the code's
D3HR_CANDIDATES = {"tiny-imagenet": 10**6, "cifar10": 5 * 10**6, "cifar100": 5 * 10**6}
D3HR_CANDIDATES_ELSE = 10**5
D3HR_CANDIDATES_CODE = 10**8  # whatever the dataset

# DDPS: section 4.1, figure 6, supplement 3 and 5; the timestep is our reading of "1.60".
DDPS_SCORES = {"timesteps": [0.1, 0.7]}
DDPS_IMAGES = 300  # from here on as good as all
DDPS_PATCH = 224  # px
DDPS_FEATURES = {"features": "dift", "timestep": 161}
DDPS_SETTINGS = {"clusters_used": 10, "ranking": "clusters"}
DDPS_CONCAT = 10  # largest IPC whose images are four patches

# D4M: scripts of suduo94/D4M.
D4M_DECODED = {"steps": 50, "strength": 0.7, "guidance": 8.0}

# SRe2L, G-VBSM, EDC: their scripts, and EDC's tables 6 to 10 and appendix A.2.
NOT_FLAT = {"on": "none"}
FLAT = {"on": "logits", "weight": 0.25, "beta": 0.99, "temperature": 4}
BOTH = ["batchnorm", "convolution"]
SRE2L = {"initial": "noise", "order": "by_copy", "alpha": 1.0, "kinds": ["batchnorm"]}
GVBSM = {"initial": "noise", "order": "by_class", "alpha": 1.0, "kinds": BOTH, "iterations": 4000}
EDC = {"order": "by_class", "alpha": 0.5, "kinds": BOTH, "learning_rate": 0.05}
SMALL = ["resnet18_modified", "convnet3", "mobilenetv2_small", "wrn16_2", "shufflenetv2_small"]
EIGHT = [*SMALL, "convnet1", "convnet2", "convnet3"]
THREE = [f"torchvision/{name}" for name in ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5")]
EFFICIENT, ALEXNET = "torchvision/efficientnet_b0", "torchvision/alexnet"
FOUR = [*THREE, EFFICIENT]
TINY = ["resnet18_modified", "mobilenetv2_small", "shufflenetv2_small", EFFICIENT]
GVBSM_OBSERVERS = {"imagenet-1k": FOUR}


class EDCTable(NamedTuple):
    """What EDC's paper or its code have for a dataset."""

    initial: str
    iterations: tuple
    observers: tuple
    judges: tuple  # teachers of the labels
    epochs: int
    batch_size: int
    schedules: tuple
    crops: tuple = ([0.5, 1.0],)


EDC_TABLES = {
    "cifar10": EDCTable(
        "real", (75,), (EIGHT,), (EIGHT,), 1000, 25, ("multistep",), ([0.5, 1.0], [0.08, 1.0])
    ),
    "cifar100": EDCTable(
        "real", (2000,), (EIGHT,), (EIGHT, SMALL), 1000, 50, ("half_cosine", "ssrs")
    ),
    "tiny-imagenet": EDCTable(
        "real", (2000,), (SMALL, TINY), (SMALL, TINY), 300, 100, ("half_cosine",)
    ),
    "imagenet-10": EDCTable(
        "rded", (50, 2000), (THREE, FOUR), (FOUR,), 1000, 50, ("half_cosine", "ssrs")
    ),
    "imagenet-1k": EDCTable(
        "rded",
        (1000, 2000),
        ([*FOUR, ALEXNET],),
        ([*THREE, ALEXNET],),
        300,
        100,
        ("half_cosine", "linear"),
    ),
}
EDC_TRAINING = {"loss": "mse_ce", "ce_weight": 0.025, "ema": 0.99}


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
    a test on held-out training images, or what a denoiser made that was trained here.

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
    if key not in numbers or not _as_described(identity["dataset"], spec):
        return None, None
    return numbers[key]


def _as_described(dataset, spec):
    network, made = spec["settings"]["network"], spec["upstream"]["distilled"]
    if network["arch"].startswith("convnet") and any(network[k] != v for k, v in CONVNET.items()):
        return False
    if any(part["settings"]["holdout"] for part in _upstream(made) if part["stage"] == "index"):
        return False
    kind = made["settings"]["kind"]
    if kind == "rded":
        return _as_rded(made) and _judged(spec)
    if kind == "d3hr":
        return _as_d3hr(dataset, made) and _judged(spec)
    if kind == "ddps":
        return _as_ddps(made) and _judged(spec)
    if kind == "sre2l":
        return _as_sre2l(made) and _judged(spec)
    if kind == "gvbsm":
        return _as_gvbsm(dataset, spec, made)
    if kind == "edc":
        return _as_edc(dataset, spec, made)
    return kind != "d4m" or (_as_d4m(made) and _judged(spec))


def _upstream(part):
    """Yield a spec and all that it was made from."""
    yield part
    for other in part["upstream"].values():
        yield from _upstream(other)


def _has(settings, wanted):
    return all(settings.get(name) == value for name, value in wanted.items())


def _judged(spec):
    """Tell whether students learn hard labels, or by KL those of a network like the papers'.

    A ResNet-18 makes the labels, or for a ConvNet a network like the student.
    """
    if spec["settings"]["labels"]["kind"] == "hard":
        return True
    if spec["settings"]["training"]["loss"] != "kl":
        return False
    judges = _teachers(spec["upstream"].get("labels", spec))
    student = spec["settings"]["network"]["arch"]
    if student.startswith("convnet"):
        return judges == [student]
    return not judges or judges in OBSERVERS


def _teachers(part):
    """Return the architectures of the teachers that something was made with."""
    made_from = part["upstream"].values()
    return [other["settings"]["arch"] for other in made_from if other["stage"] == "teacher"]


def _among(found, wanted):
    """Tell whether a list is one of several, in any order."""
    return sorted(found) in map(sorted, wanted)


def _pretrained(denoiser, **wanted):
    """Tell whether a denoiser has these settings, and weights that were not made here."""
    return "weights" in denoiser["settings"] and _has(denoiser["settings"], wanted)


def _as_rded(made):
    settings, scores = made["settings"], made["upstream"]["scores"]["settings"]
    if "selection" in settings or settings["patches_per_image"] != 1:
        return False
    if settings["patches_per_side"] != 1 + (settings["resolution"] >= PATCHES_FROM):
        return False
    return all(scores[name] == value for name, value in RDED_SCORES.items())


def _as_d3hr(dataset, made):
    decoded = made["upstream"]["decoded"]
    samples = decoded["upstream"]["start"]
    weights = samples["settings"]["weights"]
    wanted = D3HR_CANDIDATES.get(dataset, D3HR_CANDIDATES_ELSE)
    return (
        _pretrained(decoded["upstream"]["denoiser"], kind="dit", resolution=256)
        and _has(decoded["settings"], D3HR_DECODED)
        and _has(samples["settings"], D3HR_SAMPLES)
        and _has(samples["upstream"]["inversion"]["settings"], D3HR_INVERSION)
        and weights["mean"] == weights["std"] == 1
        and weights["skewness"] in D3HR_SKEWNESS
        and samples["settings"]["candidates"] in (wanted, D3HR_CANDIDATES_CODE)
    )


def _as_ddps(made):
    settings, clusters = made["settings"], made["upstream"].get("clusters")
    if clusters is None:
        return False
    scores, features = (clusters["upstream"][name] for name in ("scores", "features"))
    whole = settings["resolution"] < PATCHES_FROM
    variant = "concat" if made["keys"]["ipc"] <= DDPS_CONCAT and not whole else "single"
    patch = 0 if whole else DDPS_PATCH
    images = scores["settings"]["images_per_class"]
    # To what size small images are brought is not said.
    size = {} if whole else {"resolution": 256}
    return (
        _pretrained(scores["upstream"]["denoiser"], kind="stable_diffusion", **size)
        and _has(scores["settings"], {**DDPS_SCORES, "patch": patch})
        and (images == "all" or images >= DDPS_IMAGES)
        and _has(features["settings"], DDPS_FEATURES)
        and clusters["settings"]["clusters"] == 32
        and _has(settings, DDPS_SETTINGS)
        and settings["variant"] in ("auto", variant)
    )


def _as_d4m(made):
    decoded = made["upstream"]["decoded"]
    denoiser = decoded["upstream"]["denoiser"]
    pretrained = _pretrained(denoiser, kind="stable_diffusion", resolution=512)
    return pretrained and _has(decoded["settings"], D4M_DECODED)


def _as_sre2l(made):
    synthesis = made["upstream"]["synthesis"]
    settings, observers = synthesis["settings"], _teachers(synthesis)
    return _has(settings, SRE2L) and settings["flatness"] == NOT_FLAT and observers in OBSERVERS


def _as_gvbsm(dataset, spec, made):
    synthesis, training = made["upstream"]["synthesis"], spec["settings"]["training"]
    settings, several = synthesis["settings"], [GVBSM_OBSERVERS.get(dataset, SMALL)]
    return (
        _has(settings, GVBSM)
        and settings["flatness"] == NOT_FLAT
        and settings["weights"]["densification"] == 1
        and _among(_teachers(synthesis), several)
        and _among(_teachers(spec["upstream"].get("labels", spec)), several)
        and training["loss"] == "mse_ce"
        and training["schedule"] == "cosine"
        and not {"smoothing", "ema"} & training.keys()
    )


def _as_edc(dataset, spec, made):
    """Tell whether all that EDC's ablations change is as in its table of the dataset."""
    table, ipc = EDC_TABLES[dataset], made["keys"]["ipc"]
    synthesis, training = made["upstream"]["synthesis"], spec["settings"]["training"]
    settings, start = synthesis["settings"], synthesis["upstream"].get("initial")
    images = ipc * len(made["settings"]["classes"])
    epochs = 1000 if (dataset, ipc) == ("tiny-imagenet", 1) else table.epochs
    return (
        _has(settings, EDC)
        and (start["settings"]["kind"] if start else settings["initial"]) == table.initial
        and settings["iterations"] in table.iterations
        and settings["crop"] in table.crops
        and settings["flatness"] in (NOT_FLAT, FLAT)
        and settings["weights"]["densification"] == 0
        and _among(_teachers(synthesis), table.observers)
        and _among(_teachers(spec["upstream"].get("labels", spec)), table.judges)
        and _has(training, {**EDC_TRAINING, "epochs": epochs})
        and training["schedule"] in table.schedules
        and training.get("smoothing", 2) == 2
        and spec["settings"]["labels"]["batch_size"] == min(table.batch_size, images)
    )
