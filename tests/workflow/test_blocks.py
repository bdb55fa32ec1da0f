"""Results do not depend on the division of members into jobs."""

import pytest

pytestmark = pytest.mark.workflow

TABLE = "results/tables/tiny.csv"
# Stages with members, and the sets that are collected from them.
CUT = ("images", "patch_scores", "latents", "prototypes", "decode", "synthesis", "students")


def test_results_do_not_depend_on_block_size(finished, config, cold):
    """`cold` has all classes, batches and seeds of a stage in one job."""
    finished.remove_stages(*CUT, "distilled")
    finished.remove("tables")
    config["sources"]["digits"]["classes_per_block"] = 1
    config["compute"] |= {"seeds_per_job": 1, "batches_per_job": 1}
    finished.configure(config)
    # Jobs of complete members, which run because manifests are missing, compute nothing.
    planned = finished.jobs(TABLE)
    assert planned["images"] == 10
    assert {planned[stage] for stage in ("patch_scores", "latents", "prototypes", "decode")} == {3}
    assert (planned["synthesis"], planned["students"]) == (2, 6)
    finished.make(TABLE)
    finished.assert_same(cold)
