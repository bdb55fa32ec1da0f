from pathlib import Path

import numpy as np
import pytest
import torch
from stillhouse.artifacts import context, store
from stillhouse.artifacts.addresses import member_folder
from stillhouse.artifacts.jobs import produce
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import normalise
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.utilities import trajectories
from stillhouse.methods.common.utilities.networks import random_network
from stillhouse.methods.common.utilities.settings import TRAJECTORIES
from torch.nn.functional import cross_entropy

SETTINGS = {
    "network": {"arch": "convnet1", "width": 4, "norm": "instance"},
    **{"classes": ["0", "1", "2"], "resolution": 8, "siamese": ["crop", "rotate"]},
    **{"epochs": 3, "batch_size": 40, "learning_rate": 0.1, "seed": 0},
}
FILES = TRAJECTORIES.files


@pytest.fixture
def train(class_images, empty):
    """Return a function that trains experts and returns their folders."""

    def train(name, numbers=(0,), seconds=60, **changes):
        settings = {**SETTINGS, **changes}
        spec = {"stage": "trajectories", "settings": settings, "keys": {}, "digest": ""}
        spec["address"] = f"results/trajectories/{name}"
        resources = {"device": "cpu", "checkpoint_seconds": seconds}
        produce(TRAJECTORIES, {"images": class_images}, spec, list(numbers), resources)
        return [member_folder(spec["address"], "expert", number) for number in numbers]

    return train


def snapshots(folder):
    return store.read_tensors(folder / FILES[0])


def test_snapshots_are_those_of_plain_gradient_descent(train, class_images):
    (folder,) = train("x", siamese=[], epochs=2)
    classes = SETTINGS["classes"]
    pixels, labels = load_split(class_images, classes, 8, "train")
    net = random_network(SETTINGS, 0, "expert 0", torch.device("cpu")).requires_grad_(True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    stored, curve = snapshots(folder), store.read_json(folder / FILES[1])
    names = [name for name, _ in net.named_parameters()]
    assert stored.keys() == {f"{epoch}.{name}" for epoch in range(3) for name in names}
    for epoch in range(3):
        for name, weight in net.named_parameters():
            torch.testing.assert_close(stored[f"{epoch}.{name}"], weight.detach())
        if epoch < 2:
            rng, total = generator(0, "expert order", item=f"0, {epoch}"), 0.0
            for rows in torch.from_numpy(permutation(rng, len(pixels))).split(40):
                optimizer.zero_grad()
                loss = cross_entropy(net(normalise(pixels[rows])), labels[rows])
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            assert curve["loss"][epoch] == pytest.approx(total / len(pixels))


def test_fewer_epochs_are_the_first_of_more(train):
    (three,), (two,) = train("three"), train("two", epochs=2)
    longer, shorter = snapshots(three), snapshots(two)
    assert shorter.keys() == {name for name in longer if not name.startswith("3.")}
    assert all(torch.equal(shorter[name], longer[name]) for name in shorter)


def test_an_expert_does_not_depend_on_the_others(train):
    together, (alone,) = train("all", range(3)), train("one", [1])
    contents = [(folder / FILES[0]).read_bytes() for folder in [*together, alone]]
    assert contents[1] == contents[3] and len(set(contents)) == 3


@pytest.mark.parametrize("seconds", [0, 1000])
def test_a_resumed_expert_has_the_same_bytes(train, interrupt, seconds):
    (undisturbed,) = train("undisturbed")
    calls = interrupt(trajectories.Experts, "_epoch", 3)
    with pytest.raises(KeyboardInterrupt):
        train("interrupted", seconds=seconds)
    (found,) = train("interrupted", seconds=seconds)
    assert len(calls) == 3 + (1 if seconds == 0 else 3)
    for name in FILES:
        assert (found / name).read_bytes() == (undisturbed / name).read_bytes()


def test_an_expert_of_a_split_in_a_file_has_the_same_bytes(train, monkeypatch):
    (in_memory,) = train("memory")
    monkeypatch.setattr(context, "MEMORY_BYTES", 0)
    (in_file,) = train("file")
    for name in FILES:
        assert (in_file / name).read_bytes() == (in_memory / name).read_bytes()


def test_experts_learn(train):
    (folder,) = train("x", siamese=[], epochs=12, learning_rate=0.3)
    losses = store.read_json(folder / FILES[1])["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_a_loss_that_is_not_finite_is_an_error(train):
    with pytest.raises(StillhouseError, match=r"learning_rate: the loss of expert 0 is not finite"):
        train("x", learning_rate=1e30)
    assert not Path("results/trajectories/x").exists()


def test_weights_are_read_by_expert_and_epoch(train):
    folders = train("x", range(2))
    files = {number: folder / FILES[0] for number, folder in enumerate(folders)}
    names = [name for name, _ in random_network(SETTINGS, 0, 0, "cpu").named_parameters()]
    reader = trajectories.Snapshots(files, names, torch.device("cpu"))
    for expert, epoch in ((0, 0), (1, 3)):
        stored = snapshots(folders[expert])
        weights = reader.read(expert, epoch)
        assert all(
            np.array_equal(w, stored[f"{epoch}.{name}"])
            for w, name in zip(weights, names, strict=True)
        )
