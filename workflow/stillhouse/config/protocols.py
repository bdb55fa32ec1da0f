"""Protocols and labels: values of paper and code, and the tables of RDED, IDC and EDC.

Settled settings have no ``fidelity``, so that equal switches give equal addresses. Facts: RDED
supplement, sections C and D; LINs-lab/RDED at 3f6453d.
"""

from stillhouse.config import schedules
from stillhouse.networks.architectures import has_batchnorm

FIDELITY = {
    "code": {"schedule": "half_cosine", "batchnorm_updates": 2},
    # The paper names no schedule; a cosine to zero is that of its references.
    "paper": {"schedule": "cosine", "batchnorm_updates": 1},
}

# argument.py of RDED, by student; convnet1 and convnet2 have the rate of the other ConvNets.
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

# (teacher, classes, resolution) of ConvNet-3 on CIFAR-100, a special case of argument.py.
CIFAR100_CONVNET = ("convnet3", 100, 32)

# Kinds of labels with one distribution per image, without a teacher.
FIXED_LABELS = ("hard", "learned")

# Keys used by one loss only.
LOSS_KEYS = {"kl": {"temperature"}, "mse_ce": {"ce_weight"}, "ce": set()}


def views(labels):
    """Return the settings of the views of labels for `stillhouse.augmentation.views.draw`.

    RDED's code crops to at least 1/f of the area and permutes the f × f patches; its paper has only
    "random resized crop", whose default is 0.08.

    Parameters
    ----------
    labels : dict
        With the schema's defaults.
    """
    chosen, code = labels["views"], labels["fidelity"] == "code"
    side = chosen["patches_per_side"]
    # A padded crop has the image's size.
    pad = chosen.get("pad", 0)
    boxes = {"crop": chosen.get("crop", [1 / side if code else 0.08, 1.0])}
    boxes = {"pad": pad} if pad else boxes
    optional = ("randaugment", "jitter", "lighting", "siamese")
    decided = {
        **boxes,
        "flip": chosen["flip"],
        "mix": chosen["mix"],
        "patches_per_side": side if chosen.get("shuffle_patches", code) else 1,
        **{name: chosen[name] for name in optional if name in chosen},
    }
    if chosen["mix"] != "none":
        decided |= {"mix_alpha": chosen["mix_alpha"], "mix_per": chosen["mix_per"]}
    return decided


def with_switches(protocol, kind):
    """Return a protocol with every switch decided, for labels of a kind.

    Parameters
    ----------
    protocol : dict
        With the schema's defaults.
    kind : str
        ``hard``, ``learned``, ``soft`` or ``online``.
    """
    loss = "ce" if kind in FIXED_LABELS else "kl"
    return {"loss": loss, **FIDELITY[protocol["fidelity"]], **protocol}


def unused(protocol):
    """Return [(names of settings without effect, reason)].

    Parameters
    ----------
    protocol : dict
        See `with_switches`.
    """
    loss = protocol["loss"]
    idle = set().union(*LOSS_KEYS.values()) - LOSS_KEYS[loss]
    return [(idle, f"loss: {loss}"), *schedules.unused(protocol["schedule"])]


def settled(protocol, kind):
    """Return a protocol with every switch decided and every key of its schedule.

    Settings without effect and ``fidelity`` are removed.
    """
    decided = with_switches(protocol, kind)
    idle = {"fidelity"}.union(*(names for names, _ in unused(decided)))
    return schedules.written_out({k: v for k, v in decided.items() if k not in idle})


def for_cell(protocol, network, teacher_arch, n_classes, resolution, ipc):
    """Return (training settings, batch size) of the students of one cell.

    Training settings exclude ``report`` and ``on_divergence``, which do not affect students, the
    settings of labels (``labels``, ``batch_size``), and ``batchnorm_updates`` for a network without
    batch norms.

    Parameters
    ----------
    protocol : dict
        Settled.
    network : dict
        Of the student.
    teacher_arch : str
        Architecture of the labels' teacher; empty for none or several.
    n_classes : int
    resolution : int
        Of the dataset [px].
    ipc : int
    """
    task = (teacher_arch, n_classes, resolution)
    n_epochs = epochs(protocol["epochs"], ipc, n_classes)
    rate = learning_rate(protocol["learning_rate"], network["arch"], *task)
    training = schedules.in_epochs({**protocol, "epochs": n_epochs, "learning_rate": rate})
    training["tests"] = tests_in_epochs(protocol["tests"], n_epochs)
    excluded = {"labels", "report", "batch_size", "on_divergence"}
    if not has_batchnorm(network):
        excluded.add("batchnorm_updates")
    training = {name: value for name, value in training.items() if name not in excluded}
    return training, batch_size(protocol["batch_size"], ipc, *task)


def with_epochs(protocol, n_epochs):
    """Return a settled protocol with another number of epochs; milestones keep their shares."""
    changed = {**protocol, "epochs": n_epochs}
    if "milestones" in protocol:
        shares = (m if m < 1 else m / protocol["epochs"] for m in protocol["milestones"])
        changed["milestones"] = list(shares)
    return changed


def tests_in_epochs(tests, n_epochs):
    """Return the tests of a protocol with ``every`` and ``after`` in epochs.

    Both are shares of all epochs below 1. A share is not affected by rounding errors: 0.8 of 300
    epochs is 240.
    """
    every, after = (
        round(tests[name] * n_epochs, 6) if tests[name] < 1 else float(tests[name])
        for name in ("every", "after")
    )
    return {"every": max(int(every), 1), "offset": tests["offset"], "after": after}


def tested_epochs(training):
    """Return the epochs, from 1, after which a student is tested.

    Parameters
    ----------
    training : dict
        ``epochs``; ``tests``: ``every`` n-th epoch, counted from ``offset``, ``after`` an epoch.
        The last epoch is always tested. See `for_cell`.
    """
    n_epochs, tests = training["epochs"], training["tests"]
    tested = range(tests["offset"], n_epochs + 1, tests["every"])
    return {e for e in tested if e > tests["after"]} | {n_epochs}


def batch_size(setting, ipc, teacher_arch, n_classes, resolution):
    """Return the images per step, for ``auto`` from RDED's table.

    The table (argument.py) has IPC 1, 10 and 50 only; here, other values use the entry of the next
    smaller IPC. Doubled from 100 classes on; always 100 for 200 classes of 64 px (Tiny-ImageNet)
    and 25 for labels of a ConvNet-3 on CIFAR-100; at most all images. It does not depend on the
    student, since students share a table of labels with fixed batches.
    """
    if setting == "auto":
        base = 100 if ipc >= 50 else 50 if ipc >= 10 else 10
        setting = base * (2 if n_classes >= 100 else 1)
        if (n_classes, resolution) == (200, 64):
            setting = 100
        if (teacher_arch, n_classes, resolution) == CIFAR100_CONVNET:
            setting = 25
    return min(setting, ipc * n_classes)


def epochs(setting, ipc, n_classes):
    """Return the epochs of a protocol, for ``auto`` from IDC's table.

    The table (Minimax argument.py) is for classes of ImageNet; two thirds of it for 100 classes,
    rounded down to hundreds.
    """
    if setting != "auto":
        return setting
    steps = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
    n_epochs = next((number for most, number in steps if ipc <= most), 300)
    return n_epochs * 2 // 3 // 100 * 100 if n_classes == 100 else n_epochs


def learning_rate(setting, student_arch, teacher_arch, n_classes, resolution):
    """Return the initial learning rate, for ``auto`` from RDED's table.

    ``learned``, the rate of a distilled set, is returned unchanged.
    """
    if setting != "auto":
        return setting
    task = (teacher_arch, n_classes, resolution)
    if student_arch == teacher_arch and task == CIFAR100_CONVNET:
        return 0.002
    return LEARNING_RATES[student_arch]
