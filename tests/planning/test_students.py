"""Cells of full data: which there are, and what shapes their students."""

import pytest
from stillhouse.config.references import FULL_DATA
from stillhouse.planning import reports
from stillhouse.planning.inputs import job_inputs

from tests.planning.configs import build

PLAIN = {"kind": "hard", "views": {"crop": [1, 1], "flip": 0, "mix": "none"}}


def full_data(config, *budgets):
    """Return the cells of full data of a plan."""
    config["experiments"]["x"]["full_data"] = list(budgets)
    cells = build(config).experiments["x"]
    return [cell for cell in cells if cell["kind"] == FULL_DATA]


def test_every_hard_protocol_has_rows_of_full_data_and_soft_ones_have_none(tiny):
    cells = full_data(tiny, 3, "matched")
    assert [(cell["method"], cell["ipc"], cell["protocol"], cell["seed"]) for cell in cells] == [
        (method, ipc, "hard", seed)
        for method in ("full data, 3 epochs", "full data, matched")
        for ipc in (1, 2)
        for seed in (0, 1)
    ]


def test_a_twin_without_augmentation_has_no_full_data(tiny):
    tiny["labels"]["plain"] = PLAIN
    tiny["protocols"]["plain"] = {**tiny["protocols"]["hard"], "labels": "plain"}
    tiny["experiments"]["x"]["protocols"].append("plain")
    assert {cell["protocol"] for cell in full_data(tiny, "matched")} == {"hard"}


def test_without_the_setting_there_is_no_full_data(tiny):
    assert full_data(tiny) == []


def test_full_data_of_epochs_are_the_same_for_all_ipcs_and_distill_seeds(tiny):
    tiny["experiments"]["x"]["distill_seeds"] = [0, 1]
    cells = full_data(tiny, 3)
    assert len({cell["artifact"].digest for cell in cells}) == 1
    assert {cell["distill_seed"] for cell in cells} == {0}


def test_matched_full_data_use_the_images_of_a_set_of_the_ipc(tiny):
    by_ipc = {cell["ipc"]: cell["artifact"].settings for cell in full_data(tiny, "matched")}
    assert {ipc: own["images_per_epoch"] for ipc, own in by_ipc.items()} == {1: 3, 2: 6}
    of_sets = build(tiny).experiments["x"]
    own = {cell["ipc"]: cell["artifact"].settings for cell in of_sets if cell["protocol"] == "hard"}
    for ipc, settings in by_ipc.items():
        assert settings["training"] == own[ipc]["training"]
        assert settings["labels"] == own[ipc]["labels"]
        assert settings["network"] == own[ipc]["network"]


def test_a_budget_of_epochs_keeps_the_shares_of_milestones(tiny):
    tiny["protocols"]["hard"] |= {
        "epochs": 100,
        "schedule": "multistep",
        "milestones": [50, 0.75],
        "batch_size": 1000,
    }
    training = full_data(tiny, 40)[0]["artifact"].settings["training"]
    assert training["epochs"] == 40
    assert training["milestones"] == [20, 30]


@pytest.mark.parametrize("budget", [3, "matched"])
def test_full_data_read_images_where_they_are_and_store_no_set(tiny, budget):
    cell = full_data(tiny, budget)[0]
    assert set(cell["artifact"].upstream) == {"images"}
    inputs = job_inputs(cell["artifact"].spec(), [0])
    assert set(inputs) == {"images"}
    assert set(inputs["images"]) == {"0", "1", "2"}
    assert reports.of_sets([cell]) == []
    assert reports.distilled_files([cell]) == {} == reports.distilled_sets([cell])


def test_teachers_are_named_as_in_the_config(tiny):
    tiny["teachers"]["u"] = {**tiny["teachers"]["t"], "seed": 1}
    tiny["teachers"]["same"] = tiny["teachers"]["t"]
    tiny["labels"]["soft"]["teachers"] = ["u"]
    plan = build(tiny)
    names = reports.teacher_names(plan, plan.experiments["x"])
    assert sorted(names.values()) == [["t", "same"], ["u"]]
