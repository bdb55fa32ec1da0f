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
