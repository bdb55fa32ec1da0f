"""Two GPUs train as one does; skipped without two of them."""

import shutil

import pytest
import torch
from stillhouse.artifacts import store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]


def test_two_gpus_make_the_teacher_of_one(made, tiny, planned, make):
    tiny["teachers"]["t"] |= {"norm": "batch", "optimizer": "sgd"}
    (artifact,) = planned(tiny).artifacts["teacher"].values()
    losses = []
    for processes in (1, 2):
        metrics = store.read_json(
            make(artifact, device="cuda", processes=processes) / "metrics.json"
        )
        losses.append([row["loss"] for row in metrics["curve"]])
        shutil.rmtree(artifact.directory)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
