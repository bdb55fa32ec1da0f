import math
import os
import re
import subprocess
import sys

import pytest
import torch
from stillhouse.artifacts.context import Context
from stillhouse.errors import StillhouseError
from stillhouse.networks import registry
from stillhouse.training import loop, optimizers
from stillhouse.training.lr_schedules import learning_rate_factor
from torch import nn
from torch.nn.functional import cross_entropy

SETTINGS = {
    "epochs": 6,
    "optimizer": "adamw",
    "learning_rate": 0.02,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "smoothing": 2.0,
    "precision": "float32",
}


def problem(seed=0, n=60):
    """Return images of two classes that differ in their mean."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    return torch.randn(n, 3, 4, 4, generator=rng) + labels[:, None, None, None] * 1.5, labels


def batches_of(images, labels, size=20, fails_at=None):
    def batches(epoch):
        if epoch == fails_at:
            raise KeyboardInterrupt
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        parts = order.split(size)

        def batch(rows):
            wanted = labels[rows]
            return images[rows], lambda outputs: cross_entropy(outputs, wanted)

        return len(parts), (batch(rows) for rows in parts)

    return batches


def build(dropout=False):
    settings = {"arch": "convnet1", "width": 4, "norm": "batch"}
    net = registry.build(settings, 2, 4, 0, "student")
    if dropout:
        net.features.append(nn.Dropout(0.5))
    return net


def fit(net, tmp_path, settings=SETTINGS, checkpoint_seconds=1e9, fails_at=None, **options):
    images, labels = problem()
    context = Context(work=tmp_path / "work", checkpoint_seconds=checkpoint_seconds)
    return loop.fit(
        net,
        settings,
        batches_of(images, labels, fails_at=fails_at),
        lambda net, epoch: {"tested": epoch} if epoch % 2 == 0 else {},
        context,
        "test epoch",
        0,
        **options,
    )


def test_training_solves_a_simple_problem(tmp_path):
    net = build()
    curve = fit(net, tmp_path)
    images, labels = problem(seed=1, n=200)
    outputs = loop.logits(net, images, 64, lambda part: part)
    assert loop.accuracies(outputs, labels)[0] > 95
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4, 5, 6]
    assert [row.get("tested") for row in curve] == [None, 2, None, 4, None, 6]


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_the_learning_rate_is_that_of_the_epoch_or_of_the_step(tmp_path, schedule):
    curve = fit(build(), tmp_path, {**SETTINGS, "schedule": schedule})
    # Three steps per epoch; one_cycle changes per step.
    last = [e + (2 / 3 if schedule == "one_cycle" else 0) for e in range(6)]
    settings = {"schedule": schedule, "epochs": 6, "smoothing": 2.0}
    wanted = [0.02 * learning_rate_factor(settings, step) for step in last]
    assert [row["learning_rate"] for row in curve] == pytest.approx(wanted)


def naive(settings, nesterov):
    """Train by formulas for SGD and AdamW, as an oracle of `fit`."""
    net = build()
    images, labels = problem()
    memory = {}
    losses, step = [], 0
    for epoch in range(settings["epochs"]):
        net.train()
        rate = settings["learning_rate"] * 0.5 * (1 + math.cos(math.pi * epoch / 12))
        n_steps, steps = batches_of(images, labels)(epoch)
        total = 0.0
        for inputs, loss in steps:
            step += 1
            net.zero_grad()
            value = loss(net(inputs))
            value.backward()
            total += value.item()
            for name, parameter in net.named_parameters():
                decay = settings["weight_decay"] if parameter.ndim > 1 else 0.0
                with torch.no_grad():
                    _update(settings, parameter, memory, name, rate, decay, step, nesterov)
        losses.append(total / n_steps)
    return net, losses


def _update(settings, parameter, memory, name, rate, decay, step, nesterov):
    gradient = parameter.grad
    if settings["optimizer"] == "sgd":
        gradient = gradient + decay * parameter
        velocity = memory[name] = 0.9 * memory.get(name, 0) + gradient
        parameter -= rate * (gradient + 0.9 * velocity if nesterov else velocity)
    else:
        parameter *= 1 - rate * decay
        first, second = memory.get(name, (0, 0))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        memory[name] = first, second
        corrected = (second / (1 - 0.999**step)).sqrt() + 1e-8
        parameter -= rate * first / (1 - 0.9**step) / corrected


@pytest.mark.parametrize(
    ("optimizer", "nesterov"), [("sgd", False), ("sgd", True), ("adamw", False)]
)
def test_training_agrees_with_steps_written_by_hand(tmp_path, optimizer, nesterov):
    settings = {**SETTINGS, "optimizer": optimizer}
    net = build()
    curve = fit(net, tmp_path, settings, nesterov=nesterov)
    wanted, losses = naive(settings, nesterov)
    assert [row["loss"] for row in curve] == pytest.approx(losses, rel=1e-4)
    actual, by_hand = dict(net.named_parameters()), dict(wanted.named_parameters())
    # The norm cancels the first bias: its gradient is rounding error, which AdamW amplifies.
    for name in actual.keys() - {"features.0.bias"}:
        assert torch.allclose(actual[name], by_hand[name], atol=1e-4), name


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_are_those_of_torchs_classes(optimizer, nesterov):
    ours, theirs = build(), build()
    made = optimizers.Optimizer(ours, {**SETTINGS, "optimizer": optimizer}, nesterov)
    several = [p for p in theirs.parameters() if p.ndim > 1]
    others = [p for p in theirs.parameters() if p.ndim <= 1]
    groups = [{"params": several, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}]
    if optimizer == "adamw":
        peer = torch.optim.AdamW(groups)
    else:
        peer = torch.optim.SGD(groups, momentum=0.9, nesterov=nesterov)
    images, labels = problem()
    for rate in (0.1, 0.01, 0.02):
        for net in (ours, theirs):
            cross_entropy(net(images), labels).backward()
        made.step(rate)
        for group in peer.param_groups:
            group["lr"] = rate
        peer.step()
        peer.zero_grad()
        assert same(ours, theirs)


def test_a_training_job_does_not_load_the_compiler():
    code = (
        "import sys, torch; from stillhouse.training import loop, optimizers\n"
        "net = torch.nn.Linear(2, 2); net(torch.ones(1, 2)).sum().backward()\n"
        "optimizers.Optimizer(net, {'optimizer': 'adamw', 'weight_decay': 0.1}).step(0.1)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_weights_of_several_dimensions_decay(optimizer):
    net = build()
    made = optimizers.Optimizer(net, {**SETTINGS, "optimizer": optimizer})
    actual = {name: decay for decay, names in made.groups for name in names}
    assert actual == {
        "features.0.weight": 0.1,
        "features.0.bias": 0.0,
        "features.1.weight": 0.0,
        "features.1.bias": 0.0,
        "classifier.weight": 0.1,
        "classifier.bias": 0.0,
    }


def same(first, second):
    return all(
        torch.equal(tensor, second.state_dict()[name])
        for name, tensor in first.state_dict().items()
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_resumed_training_is_undisturbed_training(tmp_path, optimizer, schedule):
    settings = {**SETTINGS, "optimizer": optimizer, "schedule": schedule}
    undisturbed = build(dropout=True)
    curve = fit(undisturbed, tmp_path / "undisturbed", settings)
    for epoch in (0, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            fit(build(dropout=True), tmp_path / "interrupted", settings, 0, fails_at=epoch)
    resumed = build(dropout=True)
    epochs = []
    images, labels = problem()
    steps = batches_of(images, labels)
    context = Context(work=tmp_path / "interrupted/work", checkpoint_seconds=0)
    actual = loop.fit(
        resumed,
        settings,
        lambda epoch: (epochs.append(epoch), steps(epoch))[1],
        lambda net, epoch: {"tested": epoch} if epoch % 2 == 0 else {},
        context,
        "test epoch",
        0,
    )
    assert epochs == [3, 4, 5]
    assert actual == curve
    assert same(resumed, undisturbed)


def naive_average(nets, decay):
    """Average the parameters of a net after every step, the first ones included."""
    average = {name: p.clone() for name, p in nets[0].items()}
    for parameters in nets[1:]:
        for name in average:
            average[name] = decay * average[name] + (1 - decay) * parameters[name]
    return average


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_average_is_over_all_steps(optimizer):
    net, (images, labels) = build(), problem()
    settings = {**SETTINGS, "optimizer": optimizer, "ema": 0.7}
    made, history = optimizers.Optimizer(net, settings), []
    history.append({name: p.detach().clone() for name, p in net.named_parameters()})
    for _ in range(5):
        cross_entropy(net(images), labels).backward()
        made.step(0.05)
        history.append({name: p.detach().clone() for name, p in net.named_parameters()})
    wanted = naive_average(history, 0.7)
    buffers = {name: b.clone() for name, b in net.named_buffers()}
    with made.averaged():
        for name, parameter in net.named_parameters():
            assert torch.allclose(parameter, wanted[name], atol=1e-6)
        assert not torch.equal(net.classifier.weight, history[-1]["classifier.weight"])
        # The running statistics are those of the net itself.
        assert all(torch.equal(b, buffers[name]) for name, b in net.named_buffers())
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, history[-1][name])


def test_the_average_is_tested_and_changes_no_step(tmp_path):
    def run(folder, **changes):
        weights = []

        def test(net, epoch):
            weights.append({name: p.detach().clone() for name, p in net.named_parameters()})
            return {}

        net, context = build(), Context(work=tmp_path / folder)
        steps = batches_of(*problem())
        curve = loop.fit(net, {**SETTINGS, **changes}, steps, test, context, "test", 0)
        return net, curve, weights

    plain, averaged = run("plain"), run("averaged", ema=0.9)
    assert same(plain[0], averaged[0])
    assert plain[1] == averaged[1]
    name = "classifier.weight"
    assert torch.equal(plain[2][-1][name], plain[0].state_dict()[name])
    assert not torch.equal(averaged[2][-1][name], plain[2][-1][name])


def test_a_resumed_average_is_an_undisturbed_one(tmp_path):
    settings = {**SETTINGS, "ema": 0.9}

    def run(folder, fails_at=None, checkpoint_seconds=1e9):
        def test(net, epoch):
            return {"sum": sum(p.double().sum().item() for p in net.parameters())}

        context = Context(work=tmp_path / folder, checkpoint_seconds=checkpoint_seconds)
        steps = batches_of(*problem(), fails_at=fails_at)
        return loop.fit(build(), settings, steps, test, context, "test", 0)

    undisturbed = run("undisturbed")
    with pytest.raises(KeyboardInterrupt):
        run("interrupted", fails_at=3, checkpoint_seconds=0)
    assert run("interrupted") == undisturbed


def test_alrs_goes_on_from_the_losses_before(tmp_path):
    # Tiny steps: the loss is constant, and the rate decays after every epoch but the first.
    settings = {**SETTINGS, "schedule": "alrs", "rate_decay": 0.5, "learning_rate": 1e-7}
    curve = fit(build(), tmp_path / "undisturbed", settings)
    rates = [row["learning_rate"] / 1e-7 for row in curve]
    assert rates == pytest.approx([1, 1, 0.5, 0.25, 0.125, 0.0625])
    with pytest.raises(KeyboardInterrupt):
        fit(build(), tmp_path / "interrupted", settings, 0, fails_at=4)
    assert fit(build(), tmp_path / "interrupted", settings) == curve


def test_logits_do_not_depend_on_the_batch():
    net, (images, _) = build(), problem()
    net.train()(images)
    at_once = loop.logits(net, images, 60, lambda part: part)
    assert not net.training
    parts = loop.logits(net, images, 7, lambda part: part)
    assert torch.allclose(at_once, parts, atol=1e-5)
    with torch.no_grad():
        alone = torch.cat([net.eval()(image[None] * 2) for image in images])
    assert torch.allclose(loop.logits(net, images, 7, lambda part: part * 2), alone, atol=1e-5)


def test_outputs_do_not_depend_on_the_threads():
    settings = {"arch": "convnet3", "width": 32, "norm": "batch"}
    net, images = registry.build(settings, 10, 32, 0, "teacher"), torch.randn(16, 3, 32, 32)
    single = loop.logits(net, images, 16, lambda part: part)
    try:
        torch.set_num_threads(2)
        two = loop.logits(net, images, 16, lambda part: part)
    finally:
        torch.set_num_threads(1)
    assert torch.allclose(single, two, atol=1e-5)


def test_accuracies_count_by_hand():
    outputs = torch.eye(8)[[0, 1, 2, 3]] + torch.linspace(0, 0.1, 8)
    # 3 is right at once; 7 to 4 come next, 1 is among the last.
    top1, top5 = loop.accuracies(outputs, torch.tensor([0, 7, 1, 3]))
    assert (top1, top5) == (50.0, 75.0)
    assert loop.accuracies(outputs[:, :5], torch.tensor([0, 1, 2, 4])) == (75.0, None)


def test_bfloat16_is_near_float32(tmp_path):
    exact, near = build(), build()
    curve = fit(exact, tmp_path / "a")
    rough = fit(near, tmp_path / "b", {**SETTINGS, "precision": "bfloat16"})
    assert rough[-1]["loss"] == pytest.approx(curve[-1]["loss"], abs=0.05)
    assert rough != curve
    assert all(p.dtype == torch.float32 for p in near.parameters())


@pytest.mark.parametrize("arch", ["convnet2", "resnet18_instance"])
def test_group_norms_compute_in_torchs_layout_between_channels_last(monkeypatch, arch):
    """In bfloat16, the gradient of a GroupNorm in channels last is 5 to 20 times as slow."""
    settings = {"arch": arch, "width": 8, "norm": "instance"}
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 64, 64, generator=generator, dtype=torch.float64)

    def gradients(net):
        cross_entropy(net.double()(images), torch.tensor([0, 1])).backward()
        return {name: parameter.grad for name, parameter in net.named_parameters()}

    wanted = gradients(registry.build(settings, 2, 64, 0, "teacher"))
    net = loop.to_memory_format(
        registry.build(settings, 2, 64, 0, "teacher"), {"precision": "bfloat16"}
    )
    layouts, norm, last = [], torch.nn.functional.group_norm, {"memory_format": torch.channels_last}
    with monkeypatch.context() as patch:

        def recorded(x, *arguments):
            layouts.append(x.is_contiguous())
            return norm(x, *arguments)

        patch.setattr(torch.nn.functional, "group_norm", recorded)
        actual = gradients(net)
    assert layouts and all(layouts)
    norms = [m for m in net.modules() if isinstance(m, nn.GroupNorm)]
    maps = images.new_zeros(2, norms[0].num_channels, 4, 4)
    assert norms[0](maps).is_contiguous(**last)
    torch.testing.assert_close(actual, wanted, rtol=1e-8, atol=1e-10)


def test_freeze_stops_gradients():
    net = loop.freeze(build())
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())


def diverging(tmp_path, **changes):
    """Train at a rate at which SGD diverges within the second epoch, of three steps each."""
    settings = {**SETTINGS, "optimizer": "sgd", "weight_decay": 0.0, **changes}
    return fit(build(), tmp_path, settings)


def test_a_training_that_diverges_ends_with_step_last_finite_loss_and_remedy(tmp_path):
    with pytest.raises(loop.Diverged) as raised:
        diverging(tmp_path, learning_rate=1e25)
    message = str(raised.value)
    assert re.fullmatch(
        r"test epoch 0: diverged in epoch 1, step \d of the epoch: loss (nan|inf), the last finite "
        r"loss is [\d.e+]+; lower its learning_rate, now 1e\+25",
        message,
    )
    assert raised.value.curve == []


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("step", range(4))
def test_the_first_step_whose_loss_is_not_finite_is_named(bad, step):
    values = [torch.tensor(float(i)) for i in range(4)]
    values[step] = torch.tensor(bad)
    last = f"finite loss is {step - 1}" if step else "finite loss is 0.5"
    with pytest.raises(loop.Diverged, match=f"step {step + 1} .*loss {bad:g}, the last {last}$"):
        loop._check_losses(sum(values), values, [0.5])


def test_outputs_that_are_not_finite_after_a_finite_loss_end_the_training(tmp_path):
    images, labels = problem()
    net, context = build(), Context(work=tmp_path, checkpoint_seconds=1e9)

    def evaluate(net, epoch):
        if epoch == 3:
            net.classifier.bias.data.fill_(math.nan)
        return {"accuracy": loop.accuracies(loop.logits(net, images, 64, lambda x: x), labels)[0]}

    with pytest.raises(loop.Diverged, match="epoch 3, tensor 'outputs': 120 of 120") as raised:
        loop.fit(net, SETTINGS, batches_of(images, labels), evaluate, context, "student", 4)
    assert [row["epoch"] for row in raised.value.curve] == [1, 2]


def test_a_long_epoch_is_checked_before_its_end(monkeypatch):
    monkeypatch.setattr(loop, "CHECKED", 2)
    images, labels = problem()
    net, done = build(), []

    def batch(step):
        done.append(step)
        return (
            images,
            lambda outputs: cross_entropy(outputs, labels) * (1 if step < 3 else math.nan),
        )

    optimizer = optimizers.Optimizer(net, SETTINGS)
    with pytest.raises(loop.Diverged, match="step 4 of the epoch"):
        loop.one_epoch(net, optimizer, SETTINGS, 0, 100, (batch(step) for step in range(100)))
    assert done == [0, 1, 2, 3]


def small(arch, norm="batch"):
    return registry.build({"arch": arch, "width": 4, "norm": norm}, 3, 8, 0, "student")


@pytest.mark.parametrize("n", [16, 17, 18, 20])
@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_every_image_is_in_one_step_and_none_is_alone_under_batchnorm_of_one_pixel(n, size):
    plain = [(first, min(first + size, n)) for first in range(0, n, size)]
    net = small("resnet18_modified")
    assert loop.step_bounds(small("convnet1"), n, size, 8) == plain
    bounds = loop.step_bounds(net, n, size, 8)
    assert [row for first, end in bounds for row in range(first, end)] == list(range(n))
    assert min(end - first for first, end in bounds) > 1
    assert bounds == plain or n % size == 1
    for first, end in bounds[-1:]:
        net.train()(torch.zeros(end - first, 3, 8, 8))


@pytest.mark.parametrize(("n", "size"), [(4, 1), (1, 8)])
def test_one_image_per_step_is_refused_where_batchnorm_needs_two(n, size):
    assert len(loop.step_bounds(small("convnet1"), n, size, 8)) == n
    with pytest.raises(StillhouseError, match="must be at least 2 images per step"):
        loop.step_bounds(small("resnet18_modified"), n, size, 8)
