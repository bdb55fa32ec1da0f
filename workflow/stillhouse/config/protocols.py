"""Settings that follow from other settings: what paper and code do, and RDED's tables.

Resolved settings no longer know which `fidelity` they came from: the same switches have the same
address. Facts: RDED supplement, sections C and D; LINs-lab/RDED at 3f6453d.
"""

import functools
import math

from stillhouse.methods.statistical_matching import fidelity as synthesis_switches
from stillhouse.networks.architectures import has_batchnorm

RDED = {
    "code": {
        "scoring": "pad",
        "assignment": "rank_blocks",
        "rounding": "truncate",
        "encoding": "jpeg",
    },
    # The paper does not say how a small patch is scored: as in the code.
    "paper": {
        "scoring": "pad",
        "assignment": "random",
        "rounding": "nearest",
        "encoding": "png",
    },
}

# lin-zhao-resoLve/D3HR at 8ba351d, generation/; paper: equations 5 to 8 and appendix B.
D3HR = {
    "code": {
        "inversion_start": "zero",
        "candidates": 100_000_000,
        "terms": "norm",
        "std": "own",
        "skewness": "latent",
        "sampling_start": "next",
    },
    "paper": {
        "inversion_start": "clean",
        "candidates": 100_000,
        "terms": "squared",
        "std": "target",
        "skewness": "group",
        "sampling_start": "aligned",
    },
}
D3HR_SKEWNESS = {"code": 0.1, "paper": 0.5}

# suduo94/D4M at da35d10, gen_prototype.py.
D4M = {"code": {"fit": "partial"}, "paper": {"fit": "full"}}

SWITCHES = {"rded": RDED, "d3hr": D3HR, "d4m": D4M, **synthesis_switches.SWITCHES}

PROTOCOL = {
    "code": {"schedule": "half_cosine", "batchnorm_updates": 2},
    # The paper names no schedule: a cosine to zero is what its references do.
    "paper": {"schedule": "cosine", "batchnorm_updates": 1},
}

# argument.py of RDED, by student; convnet1 and convnet2 as the other ConvNets.
LEARNING_RATES = {
    **{f"convnet{depth}": 0.001 for depth in range(1, 7)},
    "resnet18_modified": 0.001,
    "resnet101_modified": 0.001,
    "torchvision/resnet18": 0.001,
    "torchvision/resnet50": 0.001,
    "torchvision/resnet101": 0.001,
    "torchvision/efficientnet_b0": 0.002,
    "torchvision/mobilenet_v2": 0.0025,
    "torchvision/vgg11": 0.0005,
    "torchvision/alexnet": 0.0001,
    "torchvision/vit_b_16": 0.0001,
    "torchvision/swin_v2_t": 0.0001,
}


def method(settings):
    """Return a method's settings with every switch decided and without `fidelity`."""
    switches = SWITCHES.get(settings["kind"], {}).get(settings["fidelity"], {})
    unused = {"fidelity"}.union(*(names for names, _ in unused_by_method(settings)))
    decided = {k: v for k, v in {**switches, **settings}.items() if k not in unused}
    return DECIDE.get(settings["kind"], lambda decided, fidelity: decided)(
        decided, settings["fidelity"]
    )


DIFT = {"timestep", "layer", "ensemble"}


def unused_by_method(settings):
    """Return [(names of settings that a method's others leave without use, why)]."""
    kind = settings["kind"]
    if kind in synthesis_switches.SWITCHES:
        return synthesis_switches.unused(settings)
    if kind == "ddps" and settings["ranking"] == "score":
        unused = DIFT | {"features", "clip", "clusters", "clusters_used"}
        return [(unused, "ranking 'score' forms no clusters")]
    if kind == "ddps" and settings["features"] == "clip":
        return [(DIFT, "features 'clip' do not use it")]
    if kind == "ddps":
        return [({"clip"}, "features 'dift' do not use it")]
    if kind == "d4m" and settings.get("fit", D4M[settings["fidelity"]]["fit"]) == "full":
        return [({"expand"}, "fit 'full' does not use it")]
    if kind == "d3hr" and settings["process"] == "diffusion":
        return [({"inversion_start"}, "process 'diffusion' does not invert")]
    return []


def _decide_rded(decided, fidelity):
    if decided["patches_per_side"] == 1:
        decided["scoring"] = "pad"  # a patch as large as the input is scored as it is
    if decided["selection"] == "realism":
        del decided["selection"]
    return decided


def _decide_d3hr(decided, fidelity):
    decided["weights"] = {"skewness": D3HR_SKEWNESS[fidelity], **decided["weights"]}
    decided["snapshots"] = sorted(decided.get("snapshots", [decided["inversion_steps"]]))
    return decided


def _decide_ddps(decided, fidelity):
    """Say a whole image as a patch of no size, and no more clusters used than there are.

    Where a folder lies is left out.
    """
    if "clusters" in decided:
        decided["clusters_used"] = min(decided["clusters_used"], decided["clusters"])
    if decided["patch"] == "whole":
        decided["patch"] = 0
    if "clip" in decided:
        decided["clip"] = {k: v for k, v in decided["clip"].items() if k != "folder"}
    return decided


DECIDE = {
    "rded": _decide_rded,
    "d3hr": _decide_d3hr,
    "ddps": _decide_ddps,
    **{
        k: functools.partial(synthesis_switches.decide, kind=k) for k in synthesis_switches.SWITCHES
    },
}


def views(labels):
    """Return the views of `labels` as `stillhouse.augmentation.views.draw` takes them.

    RDED's code crops to at least 1/f of the area and permutes the f × f patches; its paper says
    no more than "random resized crop", whose default is 0.08.
    """
    given = labels["views"]
    code = labels["fidelity"] == "code"
    side = given["patches_per_side"]
    crop = given.get("crop", [1 / side if code else 0.08, 1.0])
    shuffle = given.get("shuffle_patches", code)
    decided = {
        "crop": crop,
        "flip": given["flip"],
        "mix": given["mix"],
        "patches_per_side": side if shuffle else 1,
        **{k: given[k] for k in ("randaugment", "jitter", "lighting", "siamese") if k in given},
    }
    if given["mix"] != "none":
        decided |= {"mix_alpha": given["mix_alpha"], "mix_per": given["mix_per"]}
    return decided


# (teacher, classes, resolution) of ConvNet-3 on CIFAR-100, which argument.py treats apart.
CIFAR100_CONVNET = ("convnet3", 100, 32)


def batch_size(setting, ipc, teacher, n_classes, resolution):
    """Return the images a step: RDED's table where `setting` is ``auto``.

    The table (argument.py) knows IPC 1, 10 and 50 and leaves other values without a batch size;
    here they take the entry of the next smaller IPC. Doubled from 100 classes on; always 100 for
    200 classes of 64 px (Tiny-ImageNet) and 25 for labels of a ConvNet-3 on CIFAR-100; never more
    than there are images. The student has no say: students share a table, which fixes the batches.
    """
    if setting == "auto":
        base = 100 if ipc >= 50 else 50 if ipc >= 10 else 10
        setting = base * (2 if n_classes >= 100 else 1)
        if (n_classes, resolution) == (200, 64):
            setting = 100
        if (teacher, n_classes, resolution) == CIFAR100_CONVNET:
            setting = 25
    return min(setting, ipc * n_classes)


def epochs(setting, ipc, n_classes):
    """Return the epochs of a protocol: IDC's table where `setting` is ``auto``.

    The table (Minimax argument.py) is for classes of ImageNet; two thirds of it for 100 classes,
    rounded down to hundreds.
    """
    if setting != "auto":
        return setting
    steps = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
    found = next((epochs for most, epochs in steps if ipc <= most), 300)
    return found * 2 // 3 // 100 * 100 if n_classes == 100 else found


# Which keys a schedule uses, and what they are where they are not given: IDC (Minimax train.py),
# EDC's code (st 2, alrs-dr 0.9975).
SCHEDULES = {
    "cosine": {"smoothing": 1.0},
    "ssrs": {"smoothing": 2.0},
    "linear": {"smoothing": 1.0},
    "multistep": {"milestones": [2 / 3, 5 / 6], "rate_decay": 0.2},
    "alrs": {"rate_decay": 0.9975},
}
SCHEDULE_KEYS = ("smoothing", "milestones", "rate_decay")


def schedule(settings):
    """Return settings with the schedule said in one way.

    What ``cosine`` and ``multistep`` are by default is left out, as before these keys were there;
    a cosine of smoothing 2 is ``half_cosine``; milestones are epochs, in order.
    """
    name = settings["schedule"]
    if name == "cosine" and settings.get("smoothing") == 2:
        settings, name = {**settings, "schedule": "half_cosine"}, "half_cosine"
    usual = SCHEDULES.get(name, {})
    unsaid = name in ("cosine", "multistep")
    given = {k: settings.get(k, value) for k, value in usual.items()}
    if "milestones" in given:
        usual, given = (
            {**keys, "milestones": _milestones(keys["milestones"], settings["epochs"])}
            for keys in (usual, given)
        )
    others = {k: v for k, v in settings.items() if k not in SCHEDULE_KEYS}
    return others | {k: v for k, v in given.items() if not (unsaid and v == usual[k])}


def _milestones(given, epochs):
    """Return milestones as the first epochs that have passed them, in order."""
    passed = (
        next(e for e in range(epochs + 1) if e / epochs >= m) if m < 1 else math.ceil(m)
        for m in given
    )
    return sorted(map(float, passed))


# Which keys a loss alone uses.
LOSS_KEYS = {"kl": {"temperature"}, "mse_ce": {"ce_weight"}, "ce": set()}


def loss(settings, kind):
    """Return the loss of a protocol's settings for labels of `kind`."""
    return settings.get("loss", "ce" if kind == "hard" else "kl")


def unused_by(loss):
    """Return the keys of other losses."""
    return set().union(*LOSS_KEYS.values()) - LOSS_KEYS[loss]


def protocol(settings, kind, network, teacher, n_classes, resolution):
    """Return a protocol's settings with every switch decided, for labels of `kind` and a student.

    `teacher` is the architecture of the labels' teacher, empty for none or several.

    What shapes no student (`report`) and what is said elsewhere (`labels`, `batch_size`) is left
    out, and so is what the chosen loss does not use.
    """
    decided = {"loss": loss(settings, kind), **PROTOCOL[settings["fidelity"]], **settings}
    if decided["learning_rate"] == "auto":
        special = (
            network["arch"] == teacher and (teacher, n_classes, resolution) == CIFAR100_CONVNET
        )
        decided["learning_rate"] = 0.002 if special else LEARNING_RATES[network["arch"]]
    unused = {"fidelity", "labels", "report", "batch_size"} | unused_by(decided["loss"])
    unused |= set() if has_batchnorm(network) else {"batchnorm_updates"}
    # RDED's view is left out, as before this key was there.
    unused |= {"test_view"} if decided["test_view"] == "rded" else set()
    return schedule({k: v for k, v in decided.items() if k not in unused})
