"""Every resumable stage under every kind of kill: for a release, see ``make test-all``."""

import os
import signal

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

# Of each resumable stage: the artifacts to remove, what lies in a checkpoint.
STAGES = {
    "teacher": ("teacher/*", "state.safetensors"),
    "denoiser": ("denoiser/*", "*.safetensors"),
    "labels": ("labels/few-rded-*", "part-*.parquet"),
    "students": ("students/few-rded-*", "state.safetensors"),
}


@pytest.mark.parametrize("killed", ["job", "snakemake", "both"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_is_resumed_to_the_same_results(finished, cold, start, stage, killed):
    pattern, checkpoint = STAGES[stage]
    finished.remove(pattern, f"logs/{stage}", "tables")
    for folder in (finished / "results/manifests").glob(pattern):
        finished.remove(str(folder.relative_to(finished / "results")))
    running = start(finished)
    running.until_checkpoint(f"{stage}/*", checkpoint)
    job = running.job(stage)
    if killed == "both":
        os.killpg(running.process.pid, signal.SIGKILL)
    else:
        (job if killed == "job" else running.process).kill()
    assert running.wait() != 0
    if killed != "job":
        finished.make("--unlock")
    finished.make()
    finished.assert_same(cold)
