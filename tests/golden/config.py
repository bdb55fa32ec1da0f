"""The config whose numbers are recorded: every stage, as small as possible."""

VIEWS = {"patches_per_side": 2, "crop": [0.3, 1.0], "mix": "cutmix"}
COLOURS = {"randaugment": {"n": 2, "m": 9}, "jitter": 0.4, "lighting": 0.1}
RDED = {
    "kind": "rded",
    "teacher": "t",
    "crops_per_image": 2,
    "images_per_class": 12,
    "patches_per_side": 2,
    "encoding": "png",
}
DENOISER = {
    "autoencoder": {
        **{"channels": [4, 8], "norm_groups": 4, "latent_channels": 2},
        **{"steps": 20, "batch_size": 8, "flip": 0.5},
    },
    "network": {
        **{"width": 8, "heads": 2, "layers": 2, "steps": 20, "batch_size": 8, "flip": True},
    },
}
D3HR = {
    **{"kind": "d3hr", "denoiser": "n", "steps": 8, "inversion_steps": 5, "guidance": 2},
    "candidates": 200,
}
CONFIG = {
    "sources": {"digits": {"kind": "digits", "holdout": 0.2}},
    "datasets": {"d": {"source": "digits", "classes": ["0", "1", "2"], "resolution": 8}},
    "teachers": {"t": {"arch": "convnet1", "width": 4, "epochs": 2, "min_accuracy": 0}},
    "methods": {
        "random": {"kind": "random"},
        "rded": RDED,
        "chosen": {**RDED, "selection": "herding"},
        "herding": {"kind": "herding", "feature_space": "t"},
        "kmeans": {"kind": "kmeans", "feature_space": "t"},
        "d3hr": {**D3HR, "fidelity": "code"},
        "paper": {**D3HR, "fidelity": "paper", "sampler": "exact"},
        "ddps": {"kind": "ddps", "denoiser": "n", "draws": 2, "clusters": 4},
        "d4m": {"kind": "d4m", "denoiser": "n", "steps": 6, "guidance": 2, "expand": 4},
    },
    "denoisers": {"n": {"kind": "dit", "resolution": 8, "train": DENOISER}},
    "labels": {
        "soft": {"kind": "soft", "teachers": ["t"], "epochs_stored": 2, "views": VIEWS},
        "hard": {"kind": "hard", "views": {**VIEWS, "mix": "mixup", "mix_per": "row"}},
        "bytes": {
            "kind": "soft",
            "teachers": ["t"],
            "epochs_stored": 2,
            "encoding": "int8",
            "views": {**VIEWS, **COLOURS},
        },
        "top": {
            "kind": "soft",
            "teachers": ["t"],
            "epochs_stored": 2,
            "encoding": "top1",
            "views": VIEWS,
        },
        "siamese": {"kind": "hard", "views": {**VIEWS, "mix": "none", "siamese": {}}},
    },
    "protocols": {
        "soft": {"labels": "soft", "epochs": 2, "batch_size": 4, "temperature": 1},
        "hard": {"labels": "hard", "epochs": 2, "batch_size": 4, "optimizer": "sgd"},
        "bytes": {
            "labels": "bytes",
            "epochs": 13,
            "batch_size": 4,
            "loss": "mse_ce",
            "learning_rate": 0.02,
            "schedule": "ssrs",
            "ema": 0.9,
        },
        "top": {
            "labels": "top",
            "epochs": 3,
            "batch_size": 4,
            "temperature": 1,
            "schedule": "multistep",
            "milestones": [2, 0.3],
        },
        "siamese": {
            "labels": "siamese",
            "epochs": 4,
            "batch_size": 4,
            "learning_rate": 0.01,
            "schedule": "alrs",
            "rate_decay": 0.1,
        },
    },
    "students": {"s": {"arch": "convnet1", "width": 4, "norm": "instance"}},
    "experiments": {
        "x": {
            "dataset": "d",
            "methods": ["random", "rded"],
            "ipc": [2],
            "students": ["s"],
            "protocols": ["soft", "hard"],
            "seeds": [0, 1],
        },
        "y": {
            "dataset": "d",
            "methods": ["herding", "kmeans"],
            "ipc": [2],
            "students": ["s"],
            "protocols": ["hard"],
            "seeds": [0],
        },
        "z": {
            "dataset": "d",
            "methods": ["chosen"],
            "ipc": [2],
            "students": ["s"],
            "protocols": ["bytes", "top", "siamese"],
            "seeds": [0],
        },
        "zz": {
            "dataset": "d",
            "methods": ["d3hr", "paper", "ddps", "d4m"],
            "ipc": [4],
            "students": ["s"],
            "protocols": ["hard"],
            "seeds": [0],
        },
    },
}

SHORT = {"observers": ["t"], "iterations": 4, "learning_rate": 0.02}
MATCHED = {**SHORT, "observers": ["t", "u"], "tile": 3, "statistics": {"pad": 1}}
FLAT = {"weight": 100, "beta": 0.5}
SYNTHESIS = {
    **CONFIG,
    "teachers": {**CONFIG["teachers"], "u": {**CONFIG["teachers"]["t"], "arch": "convnet2"}},
    "methods": {
        "sre2l": {"kind": "sre2l", **SHORT, "shift": 1},
        "gvbsm": {"kind": "gvbsm", **MATCHED, "convolution_dropout": 0.4, "initial": "real"},
        "paper": {"kind": "edc", "fidelity": "paper", **MATCHED, "flatness": FLAT},
        "code": {"kind": "edc", "fidelity": "code", **MATCHED, "flatness": {"kind": "sam"}},
    },
    "experiments": {
        "x": {
            "dataset": "d",
            "methods": ["sre2l", "gvbsm", "paper", "code"],
            "ipc": [2],
            "students": ["s"],
            "protocols": ["hard"],
            "seeds": [0],
        },
    },
}


MATCH = {"network": "i", "iterations": 4, "siamese": ["crop", "scale", "color"]}
MATCHING = {
    **CONFIG,
    "methods": {
        "dm": {"kind": "dm", **MATCH, "real_images": 5},
        "gm": {
            **{"kind": "gm", **MATCH, "real_images": 5, "initial": "real"},
            **{"outer_steps": 2, "inner_epochs": 1, "inner_batch_size": 4},
        },
        "tm": {
            **{"kind": "tm", **MATCH, "learning_rate": 5, "student_steps": 3},
            **{"student_batch_size": 4, "expert_epochs": 1, "start_epochs": 2},
            "experts": {"count": 2, "batch_size": 64, "learning_rate": 0.1},
        },
    },
    "students": {
        "i": {"arch": "convnet1", "width": 4, "norm": "instance"},
        "z": {"arch": "convnet1", "width": 4, "norm": "instance", "zca": 0.1},
    },
    "experiments": {
        "x": {
            "dataset": "d",
            "methods": ["dm", "gm", "tm"],
            "ipc": [2],
            "students": ["i", "z"],
            "protocols": ["hard"],
            "seeds": [0],
        },
    },
}
WARMUP = {"beta": 500, "restarts": 2, "iterations": 5, "finalists": 1, "final_iterations": 3}
CODEC = {"decoder": "v4-16", "context": 8, "depth": 1, "warmup": WARMUP}
JOINT = {"lambda": [5, 1], "iterations": 4, "learning_rate": 0.01, "ramp": 2}
CODED = {
    **MATCHING,
    "methods": {
        "compressed": {"kind": "compressed", **CODEC},
        "ruo": {
            **{"kind": "ruo", **CODEC, "fidelity": "paper", "slice": "set", "utility": "dm"},
            **{"network": "i", "real_images": 5, "siamese": ["crop", "scale"]},
            **{"joint": JOINT, "bounds": [1e-3, 1e-5], "holdout": 0.2},
        },
    },
    "experiments": {"x": {**MATCHING["experiments"]["x"], "methods": ["compressed", "ruo"]}},
}
# Whose plan has the stages that the first has not.
BESIDE = {
    **dict.fromkeys(("statistics", "synthesis"), SYNTHESIS),
    **dict.fromkeys(("whitening", "trajectories", "matched"), MATCHING),
    **dict.fromkeys(("compression", "rate_utility", "bound", "bitstream"), CODED),
}
