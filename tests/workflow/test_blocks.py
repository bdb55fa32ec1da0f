"""Results do not depend on how members are cut into jobs."""

import pytest

pytestmark = pytest.mark.workflow


def test_results_do_not_depend_on_block_size(folder, config, cold):
    """From scratch; `cold` has all classes, batches and seeds of a stage in one job."""
    config["sources"]["digits"]["classes_per_block"] = 1
    config["compute"] |= {"seeds_per_job": 1, "batches_per_job": 1}
    folder.configure(config)
    planned = folder.jobs("results/tables/tiny.csv")
    assert planned["images"] == 10
    assert planned["patch_scores"] == planned["latents"] == planned["decode"] == 3
    assert planned["synthesis"] == 2
    assert planned["students"] == 6
    folder.make("results/tables/tiny.csv")
    drawn = {path for path in cold.artifacts() if path.startswith("figures/")}
    assert folder.artifacts() == {k: v for k, v in cold.artifacts().items() if k not in drawn}
    assert folder.numbers() == cold.numbers()
