"""Several processes train as one does; docs/workflow.md states the tolerances."""

import math
from datetime import timedelta

import pytest
import torch
from forks import together
from stillhouse.artifacts.context import Context
from stillhouse.networks import registry
from stillhouse.training import distributed, loop, teachers
from torch import nn
from torch.nn import functional

# Of a step in float64; of losses and of weights of a training in float32.
STEP, LOSSES, WEIGHTS = 1e-10, 1e-5, 1e-3
RECIPE = {
    **{"epochs": 4, "optimizer": "sgd", "learning_rate": 0.02, "weight_decay": 0.1, "seed": 0},
    **{"schedule": "cosine", "smoothing": 2.0, "precision": "float32", "label_smoothing": 0.1},
    **{"batch_size": 13, "flip": 0.5, "crop": [0.5, 1.0]},
}


def images(n, side=8):
    """Return uint8 images of three classes of different brightness, and labels."""
    rng, labels = torch.Generator().manual_seed(0), torch.arange(n) % 3
    drawn = torch.randint(0, 200, (n, 3, side, side), generator=rng, dtype=torch.uint8)
    return drawn + (labels[:, None, None, None] * 20).to(torch.uint8), labels


def network(name, side):
    """Return an untrained network of three classes by a name of the tests."""
    if name == "random":
        with registry.global_generator(0, "weights"):
            return Randomised()
    settings = {"arch": name, "width": 8, "norm": "batch", "dropout": 0.1}
    if name == "instance":
        settings |= {"arch": "convnet2", "norm": "instance"}
    return registry.build(settings, 3, side, 0, "teacher")


class Randomised(nn.Module):
    """Dropout of elements and channels, of tokens, stochastic depth, and a norm without scale."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = functional.dropout2d(functional.relu_(self.norm(self.first(x))), 0.3, self.training)
        x = functional.dropout(x.contiguous(memory_format=torch.channels_last), 0.3, self.training)
        tokens = functional.dropout(x.flatten(2).transpose(1, 2).flatten(0, 1), 0.3, self.training)
        # Of a tensor whose order of memory is another than that of its dimensions.
        tokens = functional.dropout(tokens.view(len(x), -1, 8).transpose(1, 2), 0.3, self.training)
        rows = x.new_empty(len(x), 1, 1).bernoulli_(0.7)
        return self.last((tokens * rows).mean(2))


def step(name, n, side):
    """Return the loss of a step of n images, and gradients and buffers of the network."""
    group, net = distributed.group(), network(name, side).double().train()
    inputs = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1)).double()
    rows = group.rows(n)
    torch.manual_seed(2)
    with group.forward():
        outputs = net(inputs[rows])
    loss = functional.cross_entropy(outputs, (torch.arange(n) % 3)[rows])
    loss = group.backward(loss, net.parameters())
    tensors = {name: p.grad for name, p in net.named_parameters()}
    return {"loss": loss, **tensors, **dict(net.named_buffers())}


@pytest.mark.parametrize(
    ("name", "n", "side", "size"),
    [
        *(("convnet2", n, 8, 2) for n in (1, 2, 7)),
        *(("convnet2", 8, 8, 3), ("instance", 3, 8, 2), ("shufflenetv2_small", 5, 8, 3)),
        # An activation within the norm; dropout.
        *(("timm/mobilenetv3_small_050", 5, 32, 2), ("random", 7, 6, 2), ("random", 8, 6, 3)),
    ],
)
def test_gradients_and_statistics_are_those_of_one_process(name, n, side, size):
    wanted, actual = step(name, n, side), together(size, step, name, n, side)
    assert wanted.keys() == actual.keys()
    # A norm cancels the bias before it: its gradient is rounding error.
    error = STEP * max(tensor.double().abs().max().item() for tensor in wanted.values())
    for part, tensor in wanted.items():
        torch.testing.assert_close(actual[part], tensor, rtol=STEP, atol=error, msg=part)


def train(name, folder, seconds=1e9, **changes):
    """Train a teacher; return its curve and tensors. Process 0 alone stores checkpoints."""
    rank = distributed.group().rank
    context = Context(work=folder, checkpoint_seconds=math.inf if rank else seconds)
    net = network(name, 8)
    curve = teachers.train(net, *images(66), {**RECIPE, **changes}, context)
    return curve, net.state_dict()


def check_equal(actual, wanted):
    """Compare curves and tensors within the tolerance that the documentation states."""
    (curve, tensors), (wanted_curve, wanted_tensors) = actual, wanted
    losses, wanted_losses = ([row["loss"] for row in rows] for rows in (curve, wanted_curve))
    assert losses == pytest.approx(wanted_losses, rel=LOSSES)
    assert [row["learning_rate"] for row in curve] == [row["learning_rate"] for row in wanted_curve]
    for name, tensor in wanted_tensors.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=WEIGHTS, atol=WEIGHTS)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("convnet2", {}),
        # The last step has one row, fewer than processes.
        ("instance", {"batch_size": 13, "epochs": 2}),
        ("convnet2", {"ema": 0.9, "schedule": "one_cycle", "batch_size": 33}),
        ("random", {"batch_size": 16}),
    ],
)
def test_a_teacher_is_that_of_one_process(tmp_path, name, changes):
    wanted = train(name, tmp_path, **changes)
    assert wanted[0][-1]["loss"] < wanted[0][0]["loss"]
    check_equal(together(2, train, name, tmp_path, **changes), wanted)


def interrupted(folder):
    """Train a teacher up to its third epoch, with a checkpoint after each."""
    one_epoch = loop.one_epoch

    def failing(net, optimizer, settings, epoch, *arguments):
        if epoch == 2:
            raise KeyboardInterrupt
        return one_epoch(net, optimizer, settings, epoch, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "one_epoch", failing)
        train("convnet2", folder, 0.0)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_training_resumes_with_another_number_of_processes(tmp_path, capsys, before, after):
    wanted = train("convnet2", tmp_path / "undisturbed")
    together(before, interrupted, tmp_path / "work")
    capsys.readouterr()
    check_equal(together(after, train, "convnet2", tmp_path / "work"), wanted)
    assert "teacher 0: resumes after epoch 2" in capsys.readouterr().out


def diverging(folder):
    """Return the message of a training that diverges."""
    with pytest.raises(loop.Diverged, match=r"diverged in epoch \d, step \d") as raised:
        train("convnet2", folder, learning_rate=1e30)
    return str(raised.value)


def test_a_training_that_diverges_ends_in_all_processes(tmp_path):
    assert together(2, diverging, tmp_path) == diverging(tmp_path)


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("n", [1, 2, 5, 12, 13])
def test_processes_compute_every_row_once_or_all_of_them_each(n, size):
    parts = [list(range(n)[distributed.Group(rank, size).rows(n)]) for rank in range(size)]
    if n < size:
        assert parts == [list(range(n))] * size
    else:
        assert [row for part in parts for row in part] == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_processes_wait_for_the_slowest_to_load_its_data(monkeypatch):
    options = {}
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda _, **own: options.update(own)
    )
    store = torch.distributed.HashStore()
    distributed.join(torch.device("cpu"), store, 0, 1)
    assert options["timeout"] >= timedelta(days=1)
    assert store.timeout >= timedelta(days=1)


def test_one_process_is_no_group():
    group, parameter = distributed.group(), nn.Parameter(torch.ones(2))
    assert (group.rank, group.size, group.rows(7)) == (0, 1, slice(0, 7))
    assert distributed.group() is group
    loss = group.backward((parameter * 3).sum(), [parameter])
    assert loss == 6 and not loss.requires_grad
    assert parameter.grad.tolist() == [3, 3]
