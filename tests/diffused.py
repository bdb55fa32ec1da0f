"""The tiny config with denoisers and methods that use them, for tests of plans."""

TRAINED = {
    "kind": "dit",
    "resolution": 8,
    "train": {
        "autoencoder": {
            **{"channels": [4, 4], "norm_groups": 2, "latent_channels": 2},
            **{"steps": 4, "batch_size": 4},
        },
        "network": {
            **{"width": 8, "heads": 2, "layers": 2, "ema": 0.9},
            **{"steps": 4, "batch_size": 4},
        },
    },
}
FOLDER = {"folder": "weights/dit", "sha256": "5" * 64}
HUB = {"hub": "someone/sd", "revision": "c" * 40}
METHODS = ("d3hr", "ddps", "d4m")


def with_denoisers(config):
    """Put denoisers ``own`` (trained), ``dit`` and ``sd`` (pretrained) into a config of digits.

    Its only methods become those of `METHODS`, by their kinds' names, on ``own``.
    """
    config["denoisers"] = {
        "own": {**TRAINED, "train": {k: dict(v) for k, v in TRAINED["train"].items()}},
        "dit": {
            **{"kind": "dit", "resolution": 8, "pretrained": dict(FOLDER)},
            "class_labels": {"0": 7, "1": 3, "2": 5},
        },
        "sd": {"kind": "stable_diffusion", "resolution": 64, "pretrained": dict(HUB)},
    }
    config["methods"] = {kind: {"kind": kind, "denoiser": "own"} for kind in METHODS}
    config["experiments"]["x"]["methods"] = list(METHODS)
    return config
