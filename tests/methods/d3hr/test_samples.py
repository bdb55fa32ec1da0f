from pathlib import Path

import pytest
import torch
from stillhouse.artifacts import store
from stillhouse.artifacts.context import Context
from stillhouse.errors import StillhouseError
from stillhouse.methods.d3hr.group_sampling import search
from stillhouse.methods.d3hr.samples import samples

from tests.methods.d3hr.test_group_sampling import CPU, PAPER, gaussian


def inversion(mean, variance, snapshots=(24, 31), shape=(3, 2, 2), count=9):
    return {
        "mean": torch.stack([mean.float() + i for i in range(len(snapshots))]),
        "variance": torch.stack([variance.float() * (i + 1) for i in range(len(snapshots))]),
        "snapshots": torch.tensor(snapshots),
        "count": torch.tensor([count]),
        "shape": torch.tensor(shape),
    }


def put(tensors, class_id="cat"):
    """Write an inversion as an artifact; return its file."""
    address = f"results/inversion/x-00000000/{class_id}"
    spec = {"address": address, "stage": "inversion"}
    store.write(address, spec, {"inversion.safetensors": tensors})
    return Path(address) / "inversion.safetensors"


def sampled(path, ipc=4, seed=0, class_id="cat", **changes):
    settings = {**PAPER, "draw_on": "cpu", "snapshot": 31, **changes}
    spec = {"settings": settings, "keys": {"ipc": ipc, "seed": seed}}
    make = samples({"inversion": {class_id: path}}, spec, Context())
    return make(class_id, Context())["samples.safetensors"]


def test_samples_are_of_the_snapshot_and_have_the_shape_of_latents(empty):
    mean, std = gaussian()
    path = put(inversion(mean, std**2))
    expected = search(mean.float() + 1, (std**2).float() * 2, 4, PAPER, (0, "cat"), CPU)
    actual = sampled(path)
    assert actual["latents"].shape == (4, 3, 2, 2) and actual["latents"].dtype == torch.float32
    torch.testing.assert_close(actual["latents"].flatten(1), expected[0])
    assert actual["winner"].tolist() == [expected[1]] and actual["winner"].dtype == torch.int64
    assert actual["losses"].shape == actual["first"].shape == (4,)
    assert actual["losses"][0] < actual["first"][0]


def test_a_missing_snapshot_device_or_variance_is_an_error(empty):
    mean, std = gaussian()
    path = put(inversion(mean, std**2))
    with pytest.raises(
        StillhouseError, match="unknown snapshot 30; must be one of 24, 31"
    ) as error:
        sampled(path, snapshot=30)
    assert "\n" not in str(error.value)
    with pytest.raises(StillhouseError, match="draw_on: 'cuda' conflicts"):
        sampled(path, draw_on="cuda")
    alone = put(inversion(mean, 0 * std, count=1), "dog")
    with pytest.raises(StillhouseError, match=r"class dog: .* a class must have at least two"):
        sampled(alone, class_id="dog")
