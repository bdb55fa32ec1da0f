"""Results do not depend on the division of members into jobs."""

import pytest

pytestmark = pytest.mark.workflow

# Stages with members, and the sets that are collected from them.
CUT = (
    *("images", "patch_scores", "latents", "prototypes", "decode"),
    *("synthesis", "students", "distilled"),
)


@pytest.fixture
def plan(config, planned):
    """Return the plan of the tiny config."""
    return planned(config)


def test_results_do_not_depend_on_block_size(finished, cold, plan, make_all, monkeypatch):
    """`cold` has all classes, batches and seeds of a stage in one job; here each has its own.

    Computed by the function of jobs in this process, the last member first.
    """
    finished.remove_stages(*CUT)
    monkeypatch.chdir(finished.path)
    make_all(plan, alone=True)
    finished.assert_same(cold)


@pytest.mark.slow
def test_a_run_of_jobs_of_one_member_has_the_same_results(folder, config, cold):
    config["sources"]["digits"]["classes_per_block"] = 1
    config["compute"] |= {"seeds_per_job": 1, "batches_per_job": 1}
    folder.configure(config)
    folder.make()
    folder.assert_same(cold)
