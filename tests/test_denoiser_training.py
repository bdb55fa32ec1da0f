import json
import math
import shutil

import numpy as np
import pipelines
import pytest
import torch
from diffused import with_denoisers
from stillhouse import artifacts, denoiser_stage, jobs, training
from stillhouse.denoiser_training import (
    SCHEDULER,
    Batches,
    Loop,
    build_autoencoder,
    build_network,
    to_unit,
    train_autoencoder,
    train_network,
)
from stillhouse.denoisers import load_denoiser
from stillhouse.errors import StillhouseError
from stillhouse.images import load_split
from stillhouse.jobs import Context
from stillhouse.seeds import generator, permutation
from stillhouse.training import SideFile, part
from stillhouse.weights import weight_files

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


VAE = f"vae/{denoiser_stage.WEIGHTS}"
NETWORK_FILE = f"transformer/{denoiser_stage.WEIGHTS}"


def pixels(n=10, side=8):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, side, side), "uint8"))


def posteriors(views=1, n=10):
    drawn = np.random.default_rng(1).standard_normal((2, views, n, 2, 4, 4), np.float32)
    mean, std = torch.from_numpy(drawn)
    return mean, std.abs(), torch.arange(n) % 3


def once(net, settings, loss):
    """Stand for a `Loop`: return the losses of the first steps, without training."""
    return [loss(step).item() for step in range(settings["steps"])]


def parameters(net):
    return {name: p.detach().clone() for name, p in net.state_dict().items()}


@pytest.mark.parametrize(("n", "size"), [(10, 3), (8, 4), (5, 7), (1, 1)])
def test_an_epoch_shows_every_image_at_most_once(n, size):
    batches, fit = Batches(0, "denoiser", n, size), min(size, n)
    seen = []
    for epoch in range(3):
        rows = torch.cat([batches(epoch * (n // fit) + i)[0] for i in range(n // fit)])
        order = permutation(generator(0, "denoiser epoch", item=epoch), n)
        assert rows.tolist() == order[: n // fit * fit].tolist()
        assert len(set(rows.tolist())) == len(rows) == n // fit * fit
        seen.append(rows.tolist())
    assert n < 8 or seen[0] != seen[1] != seen[2] != seen[0]


def test_a_batch_depends_on_its_step_alone():
    forth, back = Batches(3, "denoiser", 10, 4), Batches(3, "denoiser", 10, 4)
    found = {step: forth(step) for step in range(7)}
    for step in reversed(range(7)):
        rows, rng = back(step)
        assert torch.equal(rows, found[step][0])
        assert rng.random() == found[step][1].random()
    numbers = {Batches(3, "denoiser", 10, 4)(step)[1].random() for step in range(7)}
    assert len(numbers) == 7
    for other in (Batches(4, "denoiser", 10, 4), Batches(3, "autoencoder", 10, 4)):
        assert other(0)[1].random() != forth(0)[1].random()
        assert not torch.equal(
            torch.cat([other(i)[0] for i in (0, 1)]), torch.cat([forth(i)[0] for i in (0, 1)])
        )


def test_pixels_are_between_minus_one_and_one():
    found = to_unit(torch.tensor([0, 255, 51], dtype=torch.uint8))
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([-1, 1, -0.6])


def test_the_loss_of_an_autoencoder_is_squared_error_and_divergence():
    net, images = build_autoencoder(AUTOENCODER, 8, 0).eval(), pixels()
    with torch.no_grad():
        found = train_autoencoder(net, images, AUTOENCODER, 5, once)
    batches, flips = Batches(5, "autoencoder", 10, 4), set()
    for step, value in enumerate(found):
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


class Seen(torch.nn.Module):
    """A network that remembers what it is asked, and answers with what it has."""

    def __init__(self, classes=3):
        super().__init__()
        self.answer = torch.nn.Parameter(torch.tensor(0.25))
        self.config = type("Config", (), {"num_embeds_ada_norm": classes})
        self.asked = []

    def forward(self, latents, timesteps, labels):
        self.asked.append((latents, timesteps, labels))
        return type("Output", (), {"sample": self.answer * latents})


@pytest.mark.parametrize("views", [1, 2])
def test_the_loss_of_a_network_is_its_error_in_the_noise(views):
    mean, std, labels = posteriors(views)
    net = Seen()
    settings = {**NETWORK, "steps": 30, "batch_size": 7}
    found = train_network(net, mean, std, labels, settings, 5, once)
    batches = Batches(5, "denoiser", 10, 7)
    alphas = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    dropped, shown, levels = [], set(), []
    for value, (asked, times, given), step in zip(found, net.asked, range(30), strict=True):
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
            assert given[i] == (3 if drop[i] else row % 3)
        assert value == pytest.approx(np.mean(errors), rel=1e-4)
        assert times.tolist() == t.tolist()
        dropped += drop.tolist()
        shown |= set(which.tolist())
        levels += times.tolist()
    assert 0.4 < np.mean(dropped) < 0.6
    assert shown == set(range(views))
    assert min(levels) < 50 and max(levels) > 950


def test_labels_are_dropped_as_often_as_said():
    mean, std, labels = posteriors()
    net = Seen()
    train_network(net, mean, std, labels, {**NETWORK, "steps": 300, "label_dropout": 0.1}, 0, once)
    given = torch.cat([labels for _, _, labels in net.asked])
    assert (given == 3).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_a_network_begins_with_no_prediction_and_drops_no_label_itself():
    net = build_network(NETWORK, 2, 4, 3, 0).train()
    latents = torch.from_numpy(np.random.default_rng(2).standard_normal((64, 2, 4, 4), np.float32))
    times, labels = torch.full((64,), 500), torch.full((64,), 1)
    assert not net(latents, times, labels).sample.any()
    kept = {}
    for i, block in enumerate(net.transformer_blocks):
        block.register_forward_hook(
            lambda _, inputs, output, i=i: kept.update({i: (inputs[0], output)})
        )
    net(latents, times, labels)
    for before, after in kept.values():
        assert torch.equal(before, after)
    # Where it is told apart, all of a kind are seen alike: in diffusers a tenth would be dropped.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter))
    one = latents[:1].expand(64, -1, -1, -1)
    found = net(one, times, labels).sample
    torch.testing.assert_close(found, found[:1].expand_as(found))
    null = net(one, times, torch.full((64,), 3)).sample
    assert not torch.allclose(null, found, atol=1e-4)


def test_networks_have_the_sizes_that_they_are_told():
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
def side(tmp_path):
    """Return a function that opens the side file as a new job would."""
    return lambda seconds=0.0: SideFile(Context(work=tmp_path, checkpoint_seconds=seconds))


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_loop_is_adamw_with_one_cycle_and_ends_with_the_average(side, ema):
    net, loss = line()
    twin = torch.nn.Linear(2, 1)
    twin.load_state_dict(net.state_dict())
    curve = Loop("x", side(1000))(net, plain(120, **({} if ema is None else {"ema": ema})), loss)
    adamw = torch.optim.AdamW(twin.parameters(), 0.1, weight_decay=0.0)
    wanted = loss_of(twin)
    averages, losses = [p.detach().clone() for p in twin.parameters()], []
    for step in range(120):
        # Up from 1/25 in three tenths of the steps, then down to nothing.
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
    for found, wanted in zip(net.parameters(), averages, strict=True):
        torch.testing.assert_close(found, wanted)
        assert not found.requires_grad
    assert not net.training
    assert curve == pytest.approx([np.mean(losses[:50]), np.mean(losses[50:100])], rel=1e-4)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("stop", [1, 50, 77])
def test_a_loop_resumed_is_a_loop_undisturbed(side, ema, stop):
    settings = plain(120, **({} if ema is None else {"ema": ema}))
    net, loss = line()
    curve = Loop("x", side(1000))(net, settings, loss)
    wanted, steps = parameters(net), []

    def until(step):
        steps.append(step)
        if len(steps) == stop + 1:
            raise KeyboardInterrupt
        return loss(step)

    net, loss = line()
    with pytest.raises(KeyboardInterrupt):
        Loop("x", side())(net, settings, until)
    # Another job: other weights, other state.
    net, loss = line()
    torch.nn.init.ones_(net.weight)
    again = Loop("x", side())(net, settings, until)
    assert steps == [*range(stop + 1), *range(stop, 120)]
    assert again == curve
    assert all(torch.equal(wanted[name], tensor) for name, tensor in parameters(net).items())


def test_a_training_that_had_ended_is_not_run_again(side):
    settings = plain(60, ema=0.9)
    net, loss = line()
    curve = Loop("x", side())(net, settings, loss)
    wanted = parameters(net)
    other, _ = line()
    torch.nn.init.ones_(other.weight)
    assert Loop("x", side())(other, settings, None) == curve
    assert all(torch.equal(wanted[name], tensor) for name, tensor in parameters(other).items())


def test_the_side_file_of_another_phase_is_not_taken(side, capsys):
    wanted, loss = line()
    Loop("denoiser", side(1000))(wanted, plain(10), loss)
    net, loss = line()
    Loop("autoencoder", side())(net, plain(5), loss)
    assert side().load()[1]["step"] == 5
    net, loss = line()
    Loop("denoiser", side())(net, plain(10), loss)
    assert "continues" not in capsys.readouterr().out
    for found, parameter in zip(net.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(found, parameter)


def test_what_is_kept_goes_into_the_side_file(side):
    net, loss = line()
    kept = {"a.b": torch.arange(3.0)}
    Loop("denoiser", side(), kept, {"autoencoder": [1.5]})(net, plain(4), loss)
    tensors, values = side().load()
    assert torch.equal(part(tensors, "kept.")["a.b"], kept["a.b"])
    assert values["values"] == {"autoencoder": [1.5]}
    assert (values["name"], values["step"]) == ("denoiser", 4)


@pytest.fixture
def planned_denoiser(tiny, planned):
    """Return a function from changes of the tiny config to the artifact of its denoiser."""

    def find(change=lambda config: None):
        config = with_denoisers(tiny)
        config["sources"]["digits"]["holdout"] = 0.9
        config["experiments"]["x"]["methods"] = ["d3hr"]
        change(config)
        (found,) = planned(config).single["denoiser"].values()
        return found

    return find


@pytest.fixture(scope="module")
def images_at(tmp_path_factory, make):
    """Return a function that puts the images of all digits into the working directory."""
    kept = tmp_path_factory.mktemp("digits")

    def put(artifact):
        images = artifact.upstream["images"]
        if not (kept / "results").exists():
            make(images.upstream["index"])
            make(images, list("0123456789"))
            shutil.copytree("results", kept / "results")
        else:
            shutil.copytree(kept / "results", "results", dirs_exist_ok=True)
        return artifact

    return put


@pytest.fixture
def own(planned_denoiser, images_at, empty):
    """Return the artifact of a trained denoiser; its images are there."""
    return images_at(planned_denoiser())


def test_the_description_is_the_last_file_to_be_there(own, make, monkeypatch):
    write, order = artifacts.write, []
    monkeypatch.setattr(
        artifacts, "write", lambda *given: order.append(list(given[2])) or write(*given)
    )
    make(own)
    # The rule asks for no other file: with it, all have to be there.
    assert order[0][-1] == "denoiser.json" and len(order[0]) > 5


def test_a_trained_folder_is_what_diffusers_saves(own, make):
    folder = make(own)
    about = artifacts.read_json(folder / "denoiser.json")
    assert about["kind"] == "dit" and about["resolution"] == 8 and about["weights"] is None
    assert about["labels"] == {str(i): i for i in range(10)}
    said = about["metrics"]
    assert said["autoencoder_loss"] == said["loss"] == []
    assert said["latent_std"] > 0 and math.isfinite(said["psnr_test"])
    assert set(artifacts.read_spec(folder)["files"]) == {
        "denoiser.json",
        *weight_files(folder, "dit"),
    }

    from diffusers.pipelines.dit.pipeline_dit import DiTPipeline

    pipe = DiTPipeline.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
    net = load_denoiser(folder / "denoiser.json", {"precision": "float32"}, Context())
    check_networks(net, pipe)
    assert 1 / pipe.vae.config.scaling_factor == pytest.approx(said["latent_std"], abs=1e-5)
    alphas = pipe.scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(net.schedule.alphas, alphas, rtol=1e-4)
    assert (net.schedule.alpha(-1), net.schedule.prediction) == (1.0, "epsilon")
    assert pipe.scheduler.config.clip_sample is False
    assert said["n_parameters"] == {
        "autoencoder": sum(p.numel() for p in pipe.vae.parameters()),
        "network": sum(p.numel() for p in pipe.transformer.parameters()),
    }


@torch.no_grad()
def check_networks(net, pipe):
    """Check that a denoiser says what the networks of diffusers' own pipeline say."""
    latents = torch.from_numpy(np.random.default_rng(3).standard_normal((3, 2, 4, 4), np.float32))
    times, labels = torch.tensor([0, 500, 999]), torch.tensor([7, 7, 7])
    wanted = pipe.transformer.eval()(latents, times, labels).sample
    assert wanted.any()
    torch.testing.assert_close(net.predict(latents, times, net.condition("7").expand(3)), wanted)
    null = pipe.transformer(latents, times, torch.full((3,), 10)).sample
    torch.testing.assert_close(net.predict(latents, times, net.null.expand(3)), null)
    scale = pipe.vae.config.scaling_factor
    posterior = pipe.vae.eval().encode(to_unit(pixels(2))).latent_dist
    mean, std = net.encode(to_unit(pixels(2)))
    torch.testing.assert_close(mean, posterior.mean * scale)
    torch.testing.assert_close(std, posterior.std * scale)


def test_latents_have_unit_variance_and_psnr_is_of_the_test_split(own, make, monkeypatch):
    loaded, load = [], denoiser_stage.load_split
    monkeypatch.setattr(
        denoiser_stage,
        "load_split",
        lambda *given, **how: loaded.append((given[3], how)) or load(*given, **how),
    )
    folder = make(own, batch_size=64)
    # Squares, as it was trained on: not RDED's view of test images.
    assert loaded == [("train", {}), ("test", {"whole": True})]
    said = artifacts.read_json(folder / "denoiser.json")["metrics"]
    net = load_denoiser(folder / "denoiser.json", {"precision": "float32"}, Context())
    mean, std = net.encode(all_images(own, "train"))
    # Of samples: what is between the means, and what is around each of them.
    assert mean.var() + std.square().mean() == pytest.approx(1, abs=1e-3)
    wanted = []
    for image in all_images(own, "test").split(50):
        error = (net.decode(net.encode(image)[0]) - image).square().mean((1, 2, 3))
        wanted += (20 * np.log10(2 / error.sqrt().numpy())).tolist()
    assert said["psnr_test"] == pytest.approx(np.mean(wanted), abs=1e-3)


def test_the_batch_of_forward_passes_shapes_no_more_than_last_digits(own, make, empty):
    make(own)
    shutil.move(own.directory, empty / "first")
    make(own, batch_size=17)
    assert artifacts.checksum(own.directory / VAE) == artifacts.checksum(empty / "first" / VAE)
    first, found = (
        artifacts.load_tensors(at / NETWORK_FILE) for at in (empty / "first", own.directory)
    )
    for name, tensor in first.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-3, rtol=1e-3)


def test_another_seed_is_another_denoiser(own, make, planned_denoiser):
    other = planned_denoiser(lambda config: config["denoisers"]["own"].update(seed=1))
    paths = [make(one) / name for name in (VAE, NETWORK_FILE) for one in (own, other)]
    sums = [artifacts.checksum(path) for path in paths]
    assert sums[0] != sums[1] and sums[2] != sums[3]


@pytest.mark.parametrize("killed", ["autoencoder", "network"])
def test_a_killed_training_ends_as_if_undisturbed(own, make, monkeypatch, capsys, killed):
    folder = make(own)
    names = artifacts.read_spec(folder)["files"]
    whole = {name: (folder / name).read_bytes() for name in names}
    shutil.rmtree(folder)
    step, counted = training.Optimizer.step, []

    def until(self, rate):
        counted.append(rate)
        # Four steps of the autoencoder, four of the network.
        if len(counted) == {"autoencoder": 3, "network": 7}[killed]:
            raise KeyboardInterrupt
        return step(self, rate)

    monkeypatch.setattr(training.Optimizer, "step", until)
    with pytest.raises(KeyboardInterrupt):
        make(own, checkpoint_seconds=0.0)
    assert not (folder / "denoiser.json").exists()
    capsys.readouterr()
    make(own, checkpoint_seconds=0.0)
    assert len(counted) == {"autoencoder": 3 + 2 + 4, "network": 7 + 2}[killed]
    name = {"autoencoder": "autoencoder", "network": "denoiser"}[killed]
    assert f"{name}: continues after step 2" in capsys.readouterr().out
    assert {name: (folder / name).read_bytes() for name in names} == whole


def all_images(artifact, split):
    """Return the images of a denoiser's split as its autoencoder takes them."""
    classes = artifact.settings["classes"]
    images = artifact.upstream["images"]
    paths = [images.at(class_id=c).directory / "images.parquet" for c in classes]
    return to_unit(load_split(paths, classes, 8, split, whole=True)[0])


def test_a_network_learns_posteriors_and_mirrored_ones_where_asked(
    own, make, planned_denoiser, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        denoiser_stage, "train_network", lambda net, mean, std, *_: seen.append((mean, std)) or []
    )

    def flip(config):
        config["denoisers"]["own"]["train"]["network"]["flip"] = True

    for artifact, views in ((own, 1), (planned_denoiser(flip), 2)):
        path = make(artifact) / "denoiser.json"
        net = load_denoiser(path, {"precision": "float32"}, Context())
        images, (mean, std) = all_images(artifact, "train"), seen.pop()
        assert len(mean) == len(std) == views
        for i, view in enumerate([images, images.flip(3)][:views]):
            for found, wanted in zip((mean[i], std[i]), net.encode(view), strict=True):
                torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return pipelines.tiny_dit(tmp_path_factory.mktemp("weights") / "dit", classes=8)


def given_artifact(planned_denoiser, digest):
    def change(config):
        config["denoisers"]["dit"]["pretrained"]["sha256"] = digest
        for method in config["methods"].values():
            method["denoiser"] = "dit"

    return planned_denoiser(change)


def test_a_given_folder_is_listed_and_loaded_from_where_it_lies(
    planned_denoiser, make, empty, weights
):
    files = weight_files(weights, "dit")
    digest = denoiser_stage.folder_digest(files)
    one = given_artifact(planned_denoiser, digest)
    folder = make(one, roots={digest: str(weights)})
    assert artifacts.read_json(folder / "denoiser.json") == {
        "kind": "dit",
        "resolution": 8,
        "labels": {"0": 7, "1": 3, "2": 5},
        "weights": {"sha256": digest},
        "files": files,
        "metrics": {},
    }
    assert sorted(p.name for p in folder.iterdir()) == ["denoiser.json", "spec.json", "timing.json"]
    context = Context(roots={digest: str(weights)})
    net = load_denoiser(folder / "denoiser.json", {"precision": "float32"}, context)
    assert net.condition("1").tolist() == [3]


def test_a_wrong_digest_is_told_with_the_right_one(planned_denoiser, make, empty, weights):
    digest = denoiser_stage.folder_digest(weight_files(weights, "dit"))
    one = given_artifact(planned_denoiser, "5" * 64)
    with pytest.raises(StillhouseError, match=digest) as error:
        make(one, roots={"5" * 64: str(weights)})
    message = str(error.value)
    assert message.startswith(f"{weights}: ") and "5" * 64 in message
    assert "pretrained.sha256" in message and "\n" not in message
    assert not (one.directory / "denoiser.json").exists()


def test_a_hub_is_fetched_and_listed(weights, monkeypatch):
    asked = []
    monkeypatch.setattr(denoiser_stage, "fetch", lambda *names: asked.append(names) or weights)
    given = {"hub": "someone/dit", "revision": "c" * 40}
    settings = {"kind": "dit", "resolution": 8, "labels": {"0": 0}, "weights": given}
    found = denoiser_stage.given(settings, jobs.Context())
    assert asked == [("someone/dit", "c" * 40)]
    assert found["weights"] == given and found["files"] == weight_files(weights, "dit")


def test_names_of_a_given_denoiser_are_kept(tmp_path, monkeypatch):
    folder = pipelines.tiny_stable_diffusion(tmp_path / "sd")
    monkeypatch.setattr(denoiser_stage, "fetch", lambda *names: folder)
    settings = {
        **{"kind": "stable_diffusion", "resolution": 8, "names": {"0": "zero"}},
        "weights": {"hub": "someone/sd", "revision": "c" * 40},
    }
    found = denoiser_stage.given(settings, jobs.Context())
    assert found["names"] == {"0": "zero"} and "labels" not in found
    assert json.loads(json.dumps(found)) == found


def test_the_scheduler_is_the_one_of_dit():
    assert SCHEDULER["beta_schedule"] == "linear"
    assert (SCHEDULER["beta_start"], SCHEDULER["beta_end"]) == (0.0001, 0.02)


def test_a_given_pipeline_has_a_label_for_every_number_and_a_fitting_size(
    planned_denoiser, make, empty, tmp_path_factory
):
    folder = pipelines.tiny_dit(tmp_path_factory.mktemp("small") / "dit", classes=3)
    digest = denoiser_stage.folder_digest(weight_files(folder, "dit"))
    one = given_artifact(planned_denoiser, digest)
    with pytest.raises(StillhouseError, match=r"class '0' has number 7; .* has 3 classes"):
        make(one, roots={digest: str(folder)})


def test_weights_that_are_not_there_are_not_made_up(
    planned_denoiser, make, empty, tmp_path_factory
):
    folder = pipelines.tiny_dit(tmp_path_factory.mktemp("gap") / "dit", classes=8)
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = artifacts.load_tensors(path)
    lost = next(name for name in tensors if "to_q" in name)
    artifacts.save_tensors(path, {k: t for k, t in tensors.items() if k != lost})
    digest = denoiser_stage.folder_digest(weight_files(folder, "dit"))
    made = make(given_artifact(planned_denoiser, digest), roots={digest: str(folder)})
    context = Context(roots={digest: str(folder)})
    with pytest.raises(StillhouseError, match=f"its weights lack '{lost}'"):
        load_denoiser(made / "denoiser.json", {"precision": "float32"}, context).network  # noqa: B018
