"""Every preset is planned by Snakemake, against folders of the right shape, in seconds."""

import pytest
from snakemake_runs import ROOT

from tests.bench import plans

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

PRESETS = sorted((ROOT / "workflow/presets").glob("*.yaml"))
# Of the processor.
SECONDS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a working directory with the user's folders."""
    folder = tmp_path_factory.mktemp("presets")
    plans.make_folders(folder)
    return folder


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_planned_within_twenty_seconds(folder, path):
    n_jobs, _, seconds = plans.plan(path, folder)
    assert n_jobs > 1
    assert seconds < SECONDS
