import math

import numpy as np
import pytest
import torch
from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.context import Context
from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.transforms import to_unit
from stillhouse.diffusion.training import (
    Batches,
    build_autoencoder,
    build_network,
    train_autoencoder,
    train_network,
)
from stillhouse.diffusion.training_loop import TrainingLoop
from stillhouse.training.loop import Diverged

AUTOENCODER = {
    **{"channels": [4, 4], "layers": 1, "norm_groups": 2, "latent_channels": 2},
    **{"kl_weight": 0.01, "flip": 0.5, "steps": 6, "batch_size": 4},
    **{"learning_rate": 0.01, "precision": "float32"},
}
NETWORK = {
    **{"width": 8, "heads": 2, "layers": 2, "patch_size": 2, "label_dropout": 0.5},
    **{"ema": 0.8, "flip": False, "steps": 6, "batch_size": 4},
    **{"learning_rate": 0.01, "precision": "float32"},
}


def pixels(n=10, side=8):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, side, side), "uint8"))


def posteriors(views=1, n=10):
    drawn = np.random.default_rng(1).standard_normal((2, views, n, 2, 4, 4), np.float32)
    mean, std = torch.from_numpy(drawn)
    return mean, std.abs(), torch.arange(n) % 3


def once(net, settings, loss):
    """Replace a `TrainingLoop`: return the losses of the first steps, without training."""
    return [loss(step).item() for step in range(settings["steps"])]


def parameters(net):
    return {name: p.detach().clone() for name, p in net.state_dict().items()}


@pytest.mark.parametrize(("n", "size"), [(10, 3), (8, 4), (5, 7), (1, 1)])
def test_an_epoch_has_every_image_at_most_once(n, size):
    batches, fit = Batches(0, "denoiser", n, size), min(size, n)
    epochs = []
    for epoch in range(3):
        rows = torch.cat([batches(epoch * (n // fit) + i)[0] for i in range(n // fit)])
        order = permutation(generator(0, "denoiser epoch", item=epoch), n)
        assert rows.tolist() == order[: n // fit * fit].tolist()
        assert len(set(rows.tolist())) == len(rows) == n // fit * fit
        epochs.append(rows.tolist())
    assert n < 8 or epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_batch_depends_on_its_step_alone():
    forth, back = Batches(3, "denoiser", 10, 4), Batches(3, "denoiser", 10, 4)
    actual = {step: forth(step) for step in range(7)}
    for step in reversed(range(7)):
        rows, rng = back(step)
        assert torch.equal(rows, actual[step][0])
        assert rng.random() == actual[step][1].random()
    numbers = {Batches(3, "denoiser", 10, 4)(step)[1].random() for step in range(7)}
    assert len(numbers) == 7
    for other in (Batches(4, "denoiser", 10, 4), Batches(3, "autoencoder", 10, 4)):
        assert other(0)[1].random() != forth(0)[1].random()
        assert not torch.equal(
            torch.cat([other(i)[0] for i in (0, 1)]), torch.cat([forth(i)[0] for i in (0, 1)])
        )


def test_the_loss_of_an_autoencoder_is_squared_error_and_divergence():
    net, images = build_autoencoder(AUTOENCODER, 8, 0).eval(), pixels()
    with torch.no_grad():
        actual = train_autoencoder(net, images, AUTOENCODER, 5, once)
    batches, flips = Batches(5, "autoencoder", 10, 4), set()
    for step, value in enumerate(actual):
        rows, rng = batches(step)
        errors, divergences = [], []
        turned = rng.random(4) < 0.5
        noise = rng.standard_normal((4, 2, 4, 4), np.float32)
        for row, flip, draw in zip(rows.tolist(), turned.tolist(), noise, strict=True):
            flips.add(flip)
            image = images[row].numpy().astype(np.float64) / 127.5 - 1
            image = torch.from_numpy(image[:, :, ::-1].copy() if flip else image).float()[None]
            with torch.no_grad():
                moments = net.quant_conv(net.encoder(image))
                mean, logvar = moments.chunk(2, dim=1)
                latent = mean + (logvar / 2).exp() * torch.from_numpy(draw)
                errors.append((net.decoder(net.post_quant_conv(latent)) - image).square())
            # KL of N(m, v) from N(0, 1), in nats.
            divergences.append((mean**2 + logvar.exp() - 1 - logvar) / 2)
        wanted = torch.cat(errors).mean() + 0.01 * torch.cat(divergences).mean()
        assert value == pytest.approx(wanted.item(), rel=1e-4)
    assert flips == {False, True}


class Recording(torch.nn.Module):
    """A network that records its inputs and returns a fixed output."""

    def __init__(self, classes=3):
        super().__init__()
        self.answer = torch.nn.Parameter(torch.tensor(0.25))
        self.config = type("Config", (), {"num_embeds_ada_norm": classes, "patch_size": 2})
        self.asked = []

    def forward(self, latents, timesteps, labels):
        self.asked.append((latents, timesteps, labels))
        return type("Output", (), {"sample": self.answer * latents})


@pytest.mark.parametrize("views", [1, 2])
def test_the_loss_of_a_network_is_its_error_in_the_noise(views):
    mean, std, labels = posteriors(views)
    net = Recording()
    settings = {**NETWORK, "steps": 30, "batch_size": 7}
    actual = train_network(net, mean, std, labels, settings, 5, once)
    batches = Batches(5, "denoiser", 10, 7)
    alphas = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    dropped, shown, levels = [], set(), []
    for value, (asked, times, classes), step in zip(actual, net.asked, range(30), strict=True):
        rows, rng = batches(step)
        which, t = rng.integers(views, size=7), rng.integers(1000, size=7)
        drop = rng.random(7) < 0.5
        sampled, noise = (rng.standard_normal((7, 2, 4, 4), np.float32) for _ in range(2))
        errors = []
        for i, row in enumerate(rows.tolist()):
            latent = mean[which[i], row].numpy() + std[which[i], row].numpy() * sampled[i]
            noised = math.sqrt(alphas[t[i]]) * latent + math.sqrt(1 - alphas[t[i]]) * noise[i]
            np.testing.assert_allclose(asked[i].numpy(), noised, atol=1e-5)
            errors.append((0.25 * noised - noise[i]) ** 2)
            assert classes[i] == (3 if drop[i] else row % 3)
        assert value == pytest.approx(np.mean(errors), rel=1e-4)
        assert times.tolist() == t.tolist()
        dropped += drop.tolist()
        shown |= set(which.tolist())
        levels += times.tolist()
    assert 0.4 < np.mean(dropped) < 0.6
    assert shown == set(range(views))
    assert min(levels) < 50 and max(levels) > 950


def operations(of):
    """Return the names of the operations that the gradient of a tensor consists of."""
    names, nodes = set(), [of.grad_fn]
    while nodes:
        node = nodes.pop()
        names.add(node.name())
        nodes += [function for function, _ in node.next_functions if function is not None]
    return names


@pytest.mark.parametrize(
    ("precision", "side", "fused"),
    [("bfloat16", 16, False), ("bfloat16", 32, True), ("float32", 16, True)],
)
def test_attention_of_few_tokens_in_bfloat16_is_not_fused(precision, side, fused):
    mean = torch.zeros(1, 2, 2, side, side)
    net = build_network(NETWORK, 2, side, 3, 0)
    settings = {**NETWORK, "precision": precision, "batch_size": 2}
    losses = []
    train_network(
        net, mean, mean, torch.tensor([0, 1]), settings, 0, lambda *a: losses.append(a[2](0))
    )
    assert any("FlashAttention" in name for name in operations(*losses)) is fused


def test_labels_are_dropped_with_the_set_probability():
    mean, std, labels = posteriors()
    net = Recording()
    train_network(net, mean, std, labels, {**NETWORK, "steps": 300, "label_dropout": 0.1}, 0, once)
    classes = torch.cat([labels for _, _, labels in net.asked])
    assert (classes == 3).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_initial_predictions_are_zero_and_labels_are_not_dropped():
    net = build_network(NETWORK, 2, 4, 3, 0).train()
    latents = torch.from_numpy(np.random.default_rng(2).standard_normal((64, 2, 4, 4), np.float32))
    times, labels = torch.full((64,), 500), torch.full((64,), 1)
    assert not net(latents, times, labels).sample.any()
    recorded = {}
    for i, block in enumerate(net.transformer_blocks):
        block.register_forward_hook(
            lambda _, inputs, output, i=i: recorded.update({i: (inputs[0], output)})
        )
    net(latents, times, labels)
    for before, after in recorded.values():
        assert torch.equal(before, after)
    # Outputs of the same label are equal: diffusers itself would drop a tenth of them.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter))
    repeated = latents[:1].expand(64, -1, -1, -1)
    actual = net(repeated, times, labels).sample
    torch.testing.assert_close(actual, actual[:1].expand_as(actual))
    null = net(repeated, times, torch.full((64,), 3)).sample
    assert not torch.allclose(null, actual, atol=1e-4)


def test_networks_have_the_sizes_of_their_settings():
    net = build_network({**NETWORK, "layers": 3}, 2, 4, 5, 0)
    assert net.config.num_layers == len(net.transformer_blocks) == 3
    assert (net.config.num_attention_heads, net.config.attention_head_dim) == (2, 4)
    assert net.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight.shape == (6, 8)
    autoencoder = build_autoencoder({**AUTOENCODER, "channels": [4, 6, 8]}, 8, 0)
    posterior = autoencoder.encode(to_unit(pixels(2))).latent_dist
    assert posterior.mean.shape == (2, 2, 2, 2)
    assert autoencoder.decode(posterior.mean).sample.shape == (2, 3, 8, 8)


def test_weights_depend_on_the_seed_alone():
    for build in (
        lambda seed: build_autoencoder(AUTOENCODER, 8, seed),
        lambda seed: build_network(NETWORK, 2, 4, 3, seed),
    ):
        first = parameters(build(0))
        torch.rand(1)
        state = torch.get_rng_state()
        again, other = parameters(build(0)), parameters(build(1))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


def line():
    """Return a small network, and its loss of a step."""
    net = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(net.weight, 0.3)
    torch.nn.init.zeros_(net.bias)
    return net, loss_of(net)


def loss_of(net):
    points = torch.linspace(-1, 1, 400).view(200, 2)
    return lambda step: (net(points[step]) - step / 100).square().mean()


def plain(steps, **changes):
    return {"steps": steps, "learning_rate": 0.1, **changes}


@pytest.fixture
def checkpoint(tmp_path):
    """Return a function that opens the checkpoint as a new job would."""
    return lambda seconds=0.0: Checkpoint(Context(work=tmp_path, checkpoint_seconds=seconds))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_loop_is_adamw_with_one_cycle_and_ends_with_the_average(checkpoint, ema):
    net, loss = line()
    twin = torch.nn.Linear(2, 1)
    twin.load_state_dict(net.state_dict())
    curve = TrainingLoop("x", checkpoint(1000))(
        net, plain(120, **({} if ema is None else {"ema": ema})), loss
    )
    adamw = torch.optim.AdamW(twin.parameters(), 0.1, weight_decay=0.0)
    wanted = loss_of(twin)
    averages, losses = [p.detach().clone() for p in twin.parameters()], []
    for step in range(120):
        # Up from 1/25 in three tenths of the steps, then down to zero.
        up, down = step / 36, (step - 36) / 84
        factor = (1 + math.cos(math.pi * down)) / 2
        if step < 36:
            factor = 0.04 + 0.96 * (1 - math.cos(math.pi * up)) / 2
        adamw.param_groups[0]["lr"] = 0.1 * factor
        value = wanted(step)
        adamw.zero_grad()
        value.backward()
        adamw.step()
        losses.append(value.item())
        averages = [
            a * ema + (1 - ema) * p.detach() if ema else p.detach()
            for a, p in zip(averages, twin.parameters(), strict=True)
        ]
    for actual, wanted in zip(net.parameters(), averages, strict=True):
        torch.testing.assert_close(actual, wanted)
        assert not actual.requires_grad
    assert not net.training
    assert curve == pytest.approx([np.mean(losses[:50]), np.mean(losses[50:100])], rel=1e-4)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("stop", [1, 50, 77])
def test_a_resumed_loop_has_the_same_weights(checkpoint, ema, stop):
    settings = plain(120, **({} if ema is None else {"ema": ema}))
    net, loss = line()
    curve = TrainingLoop("x", checkpoint(1000))(net, settings, loss)
    wanted, steps = parameters(net), []

    def until(step):
        steps.append(step)
        if len(steps) == stop + 1:
            raise KeyboardInterrupt
        return loss(step)

    net, loss = line()
    with pytest.raises(KeyboardInterrupt):
        TrainingLoop("x", checkpoint())(net, settings, until)
    # Another job: other weights, other state.
    net, loss = line()
    torch.nn.init.ones_(net.weight)
    again = TrainingLoop("x", checkpoint())(net, settings, until)
    assert steps == [*range(stop + 1), *range(stop, 120)]
    assert again == curve
    assert all(torch.equal(wanted[name], tensor) for name, tensor in parameters(net).items())


def test_a_finished_training_is_not_repeated(checkpoint):
    settings = plain(60, ema=0.9)
    net, loss = line()
    curve = TrainingLoop("x", checkpoint())(net, settings, loss)
    wanted = parameters(net)
    other, _ = line()
    torch.nn.init.ones_(other.weight)
    assert TrainingLoop("x", checkpoint())(other, settings, None) == curve
    assert all(torch.equal(wanted[name], tensor) for name, tensor in parameters(other).items())


def test_the_checkpoint_of_another_phase_is_ignored(checkpoint, capsys):
    wanted, loss = line()
    TrainingLoop("denoiser", checkpoint(1000))(wanted, plain(10), loss)
    net, loss = line()
    TrainingLoop("autoencoder", checkpoint())(net, plain(5), loss)
    assert checkpoint().load()[1]["done"] == 5
    net, loss = line()
    TrainingLoop("denoiser", checkpoint())(net, plain(10), loss)
    assert "resumes" not in capsys.readouterr().out
    for actual, parameter in zip(net.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(actual, parameter)


def test_checkpoints_hold_what_earlier_phases_finished(checkpoint):
    net, loss = line()
    finished = {"a.b": torch.arange(3.0)}
    TrainingLoop("denoiser", checkpoint(), finished, {"autoencoder": [1.5]})(net, plain(4), loss)
    tensors, values = checkpoint().load()
    assert torch.equal(select_prefix(tensors, "finished.")["a.b"], finished["a.b"])
    assert values["values"] == {"autoencoder": [1.5]}
    assert (values["name"], values["done"]) == ("denoiser", 4)


@pytest.mark.parametrize(
    ("step", "steps", "interval"),
    [(3, 60, "1 to 50"), (57, 60, "51 to 60"), (119, 120, "101 to 120")],
)
def test_a_loop_that_diverges_ends_at_its_point_and_names_what_to_lower(
    checkpoint, step, steps, interval
):
    net, loss = line()

    def diverging(now):
        return loss(now) * (math.nan if now == step else 1)

    with pytest.raises(
        Diverged,
        match=rf"denoiser: diverged in steps {interval}, loss nan, .*; lower train.network."
        r"learning_rate, now 0.1",
    ):
        TrainingLoop("denoiser", checkpoint(1000))(net, plain(steps), diverging)


def test_a_checkpoint_is_not_saved_after_a_loss_that_is_not_finite(checkpoint):
    net, loss = line()
    with pytest.raises(Diverged, match="steps 1 to 4, loss nan, none was finite"):
        TrainingLoop("autoencoder", checkpoint())(
            net, plain(60), lambda now: loss(now) * (math.nan if now == 3 else 1)
        )
    _, values = checkpoint().load()
    assert values["done"] == 3
