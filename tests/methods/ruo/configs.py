"""A config of small compressed and optimised sets."""

import copy

from tests.conftest import TINY

WARMUP = {
    **{"beta": 1000, "restarts": 2, "iterations": 8, "finalists": 1, "final_iterations": 4},
}
CODEC = {"decoder": "v4-16", "context": 8, "depth": 1, "warmup": WARMUP}
RUO = {
    **{"kind": "ruo", **CODEC, "network": "student", "siamese": ["crop", "scale"]},
    "joint": {"lambda": [10, 1], "iterations": 7, "ramp": 2},
}
DM = {**RUO, "utility": "dm", "real_images": 12}
GM = {**RUO, "utility": "gm", "real_images": 12, "outer_steps": 3, "inner_epochs": 1}
TM = {
    **{**RUO, "utility": "tm", "student_steps": 3, "expert_epochs": 1, "start_epochs": 2},
    "experts": {"count": 2, "batch_size": 64},
}


def coded(**methods):
    """Return a config whose experiment has the given methods, with hard labels, at IPC 2."""
    config = copy.deepcopy(TINY)
    config["students"] = {"student": {"arch": "convnet1", "width": 4, "norm": "instance"}}
    config["methods"] = copy.deepcopy(methods)
    protocols, students = ["hard"], ["student"]
    config["experiments"]["x"] |= {"methods": list(methods), "ipc": [2], "seeds": [0]}
    config["experiments"]["x"] |= {"protocols": protocols, "students": students}
    return config


def compressed(**changes):
    """Return a method's settings."""
    return {"kind": "compressed", **CODEC, **changes}
