"""Whitening in plans: whose upstream it is, and what else it changes."""

import pytest
import yaml
from stillhouse.errors import StillhouseError
from stillhouse.planning.plan import of_file
from stillhouse.reporting import costs

from tests.planning.configs import MATCHING, build, changed, digests, put, sets_of, with_matching


@pytest.fixture
def whitened(tiny):
    """Return a config whose methods match a network with zca, which is a student too."""
    config = with_matching(tiny)
    config["students"]["z"] = {**config["students"]["i"], "zca": 0.1}
    for kind in MATCHING:
        config["methods"][kind]["network"] = "z"
    config["experiments"]["x"]["students"] = ["s", "z"]
    return config


def artifacts(plan, stage):
    singles = list(plan.artifacts.get(stage, {}).values())
    return singles + [family.artifact for family in plan.families.get(stage, {}).values()]


def test_networks_with_zca_have_one_whitening_of_the_dataset(whitened):
    plan = build(whitened)
    (whitening,) = plan.artifacts["whitening"].values()
    assert whitening.settings == {"epsilon": 0.1, "classes": ["0", "1", "2"], "resolution": 8}
    for stage in ("matched", "trajectories"):
        assert artifacts(plan, stage)
        for one in artifacts(plan, stage):
            assert one.upstream["whitening"] is whitening
    for one in artifacts(plan, "students"):
        assert ("whitening" in one.upstream) is ("zca" in one.settings["network"])


def test_pixels_are_optimised_in_the_coordinates_of_the_inputs(whitened):
    for one in artifacts(build(whitened), "matched"):
        wanted = "whitened" if "zca" in one.settings["network"] else None
        assert one.settings.get("coordinates") == wanted


def test_whitened_inputs_are_not_normalised(whitened):
    put(whitened, "datasets.three.normalisation", "cifar")
    networks = [one.settings["network"] for one in artifacts(build(whitened), "students")]
    assert len(networks) == 2 * 3 * 2
    assert all(("normalisation" in one) is ("zca" not in one) for one in networks)


def test_a_whitening_changes_nothing_else(whitened):
    del whitened["students"]["z"]["zca"]
    before = build(whitened)
    whitened["students"]["z"]["zca"] = 0.1
    after = build(whitened)
    for kind, one in sets_of(after).items():
        recomputed = changed(digests(sets_of(before)[kind]), digests(one))
        chain = {"whitening", "matched", "distilled"}
        assert recomputed == chain | ({"trajectories"} if kind == "tm" else set())


def test_the_time_of_a_whitening_is_in_the_cost_of_a_set(whitened):
    """As that of index and images, so that the cost of an exported set is complete."""
    plan = build(whitened)
    (whitening,) = plan.artifacts["whitening"].values()
    for one in (sets_of(plan)["dm"], artifacts(plan, "students")[-1]):
        assert costs.lineage(one.spec())[whitening.directory] == "distill"


def test_the_order_of_classes_has_no_effect_on_the_whitening(whitened):
    (one,) = build(whitened).artifacts["whitening"]
    put(whitened, "datasets.three.classes", ["2", "0", "1"])
    assert [*build(whitened).artifacts["whitening"]] == [one]


def test_large_images_cannot_be_whitened(whitened, tmp_path):
    put(whitened, "datasets.three.resolution", 65)
    message = r"datasets\.three\.resolution: 65 px conflicts with zca of a student; must be at most"
    with pytest.raises(StillhouseError, match=message):
        build(whitened)
    # As commands read it, with the file.
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(whitened))
    with pytest.raises(StillhouseError, match=rf"^{tmp_path}/my\.yaml: {message}"):
        of_file(tmp_path / "my.yaml")
