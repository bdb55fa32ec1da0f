"""Settings of compressed and optimised sets: switches, checks, and what variants share."""

import pytest
from stillhouse.config.load import complete
from stillhouse.data.bitstream import files
from stillhouse.errors import StillhouseError
from stillhouse.methods.ruo import method

from tests.methods.ruo.configs import DM, GM, TM, coded, compressed
from tests.planning.configs import build, set_digests


def settled(settings):
    """Return the settled settings of one method."""
    return complete(coded(a=settings), "tiny.yaml")["methods"]["a"]


def test_code_and_paper_differ_in_their_switches():
    plain = {name: value for name, value in GM.items() if name != "siamese"}
    plain["joint"] = {"lambda": [1]}
    code, paper = (settled({**plain, "fidelity": name}) for name in ("code", "paper"))
    assert code["siamese"] == [] and "flip" in paper["siamese"]
    assert (code["joint"]["iterations"], paper["joint"]["iterations"]) == (50000, 40000)
    assert (code["joint"]["noise"], paper["joint"]["noise"]) == ("gaussian", "kumaraswamy")
    assert (code["warmup"]["schedule"], paper["warmup"]["schedule"]) == ("constant", "c3")
    assert (len(code["bounds"]), len(paper["bounds"])) == (1, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**DM, "holdout": 0.2}, "methods.a.holdout: has no effect with a single bound"),
        (
            {**TM, "holdout": 0.2, "bounds": [1e-5, 1e-6]},
            "methods.a.holdout: has no effect with utility: tm",
        ),
        ({**DM, "network": "x"}, "methods.a.network: unknown student 'x'"),
        ({**DM, "student_steps": 3}, "methods.a: unknown key 'student_steps'"),
        ({**DM, "decoder": "v6-1"}, "methods.a.decoder: must be one of v4-16, v4-40"),
        ({**DM, "context": 64}, "methods.a.context: must be one of 8, 16, 24, 32"),
        ({**DM, "initial": "x"}, "methods.a.initial: unknown initialisation 'x'"),
        ({**DM, "slice": 0}, "methods.a.slice: must be"),
        (
            {**DM, "joint": {"lambda": [2, 1], "iterations": 1}},
            "methods.a.joint.iterations: must be at least 1 per lambda",
        ),
        (
            compressed(warmup={"beta": 1, "restarts": 1}),
            "methods.a.warmup.finalists: must be at most restarts, 1, not 2",
        ),
        (compressed(warmup={}), "methods.a.warmup"),
    ],
)
def test_wrong_settings_are_one_line(settings, message):
    with pytest.raises(StillhouseError) as caught:
        complete(coded(a=settings), "tiny.yaml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_slice_too_large_for_a_file_is_one_line(tiny):
    config = coded(a=compressed(slice="set"))
    config["datasets"]["three"]["resolution"] = 1024
    config["experiments"]["x"]["ipc"] = [20]
    config["students"]["student"]["arch"] = "convnet3"
    with pytest.raises(StillhouseError, match=r"methods: slice: set has 62914560 pixels"):
        build(config)
    assert method.MOST_PIXELS == files.MOST_PIXELS


def test_variants_share_warm_ups_and_trajectories():
    joint = {**TM["joint"], "lambda": [5, 2]}
    methods = {
        "compressed": compressed(),
        "dm": DM,
        "tm": TM,
        "lambda": {**TM, "joint": joint},
        "bound": {**TM, "bounds": [1e-4]},
        "bounds": {**TM, "bounds": [1e-4, 1e-5]},
    }
    digests = set_digests(coded(**methods))
    assert len({frozenset(one["compression"]) for one in digests.values()}) == 1
    assert len({frozenset(digests[n]["trajectories"]) for n in ("tm", "lambda", "bound")}) == 1
    assert digests["tm"]["rate_utility"] == digests["bound"]["rate_utility"]
    assert digests["tm"]["rate_utility"] == digests["bounds"]["rate_utility"]
    assert digests["tm"]["rate_utility"] != digests["lambda"]["rate_utility"]
    assert digests["tm"]["bitstream"] != digests["bound"]["bitstream"]


def test_ipcs_share_trajectories_but_no_warm_up():
    config = coded(a=TM)
    config["experiments"]["x"]["ipc"] = [1, 2]
    wanted = build(config)
    assert len(wanted.families["trajectories"]) == 1
    assert len(wanted.families["compression"]) == 2
    assert len(wanted.artifacts["rate_utility"]) == 2
