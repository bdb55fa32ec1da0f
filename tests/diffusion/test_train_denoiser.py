import json
import math
import shutil

import numpy as np
import pipelines
import pytest
import torch
from diffused import with_denoisers
from stillhouse.artifacts import context, formats, store
from stillhouse.artifacts.context import Context
from stillhouse.data.splits import load_split
from stillhouse.data.transforms import to_unit
from stillhouse.diffusion import train_denoiser
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.diffusion.pretrained import weight_files
from stillhouse.diffusion.training import SCHEDULER
from stillhouse.errors import StillhouseError
from stillhouse.planning.inputs import job_inputs
from stillhouse.training import optimizers

VAE = f"vae/{train_denoiser.WEIGHTS}"
NETWORK_FILE = f"transformer/{train_denoiser.WEIGHTS}"


@pytest.fixture
def planned_denoiser(tiny, planned):
    """Return a function from changes of the tiny config to the artifact of its denoiser."""

    def find(change=lambda config: None):
        config = with_denoisers(tiny)
        config["sources"]["digits"]["holdout"] = 0.9
        config["experiments"]["x"]["methods"] = ["d3hr"]
        change(config)
        (actual,) = planned(config).artifacts["denoiser"].values()
        return actual

    return find


@pytest.fixture(scope="module")
def images_at(tmp_path_factory, make):
    """Return a function that puts the images of all digits into the working directory."""
    stored = tmp_path_factory.mktemp("digits")

    def put(artifact):
        if not (stored / "results").exists():
            dataset = artifact.upstream["images"]
            make(dataset.upstream["index"])
            make(dataset.upstream["images"], dataset.settings["classes"])
            make(dataset)
            shutil.copytree("results", stored / "results")
        else:
            shutil.copytree(stored / "results", "results", dirs_exist_ok=True)
        return artifact

    return put


@pytest.fixture
def own(planned_denoiser, images_at, empty):
    """Return the artifact of a trained denoiser, with its images stored."""
    return images_at(planned_denoiser())


def test_the_description_is_the_last_file_written(own, make, monkeypatch):
    write, order = store.write, []
    monkeypatch.setattr(store, "write", lambda *args: order.append(list(args[2])) or write(*args))
    make(own)
    # It is the only declared file of the rule; with it, all files must exist.
    assert order[0][-1] == "denoiser.json" and len(order[0]) > 5


def test_a_trained_folder_equals_one_saved_by_diffusers(own, make):
    folder = make(own)
    about = store.read_json(folder / "denoiser.json")
    assert about["kind"] == "dit" and about["resolution"] == 8 and about["weights"] is None
    assert about["class_labels"] == {str(i): i for i in range(10)}
    metrics = about["metrics"]
    assert metrics["autoencoder_loss"] == metrics["loss"] == []
    assert metrics["latent_std"] > 0 and math.isfinite(metrics["psnr_test"])
    assert set(store.read_spec(folder)["files"]) == {
        "denoiser.json",
        *weight_files(folder, "dit"),
    }

    from diffusers.pipelines.dit.pipeline_dit import DiTPipeline

    pipe = DiTPipeline.from_pretrained(folder, use_safetensors=True, low_cpu_mem_usage=False)
    net = load_denoiser(folder / "denoiser.json", {"precision": "float32"}, Context())
    check_networks(net, pipe)
    assert 1 / pipe.vae.config.scaling_factor == pytest.approx(metrics["latent_std"], abs=1e-5)
    alphas = pipe.scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(net.schedule.alphas, alphas, rtol=1e-4)
    assert (net.schedule.alpha(-1), net.schedule.prediction) == (1.0, "epsilon")
    assert pipe.scheduler.config.clip_sample is False
    assert metrics["n_parameters"] == {
        "autoencoder": sum(p.numel() for p in pipe.vae.parameters()),
        "network": sum(p.numel() for p in pipe.transformer.parameters()),
    }


@torch.no_grad()
def check_networks(net, pipe):
    """Check that predictions of a denoiser equal those of diffusers' own pipeline."""
    latents = torch.from_numpy(np.random.default_rng(3).standard_normal((3, 2, 4, 4), np.float32))
    times, labels = torch.tensor([0, 500, 999]), torch.tensor([7, 7, 7])
    wanted = pipe.transformer.eval()(latents, times, labels).sample
    assert wanted.any()
    torch.testing.assert_close(net.predict(latents, times, net.condition("7").expand(3)), wanted)
    null = pipe.transformer(latents, times, torch.full((3,), 10)).sample
    torch.testing.assert_close(net.predict(latents, times, net.null.expand(3)), null)
    scale = pipe.vae.config.scaling_factor
    images = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 2 - 1
    posterior = pipe.vae.eval().encode(images).latent_dist
    mean, std = net.encode(images)
    torch.testing.assert_close(mean, posterior.mean * scale)
    torch.testing.assert_close(std, posterior.std * scale)


def test_latents_have_unit_variance_and_psnr_is_of_the_test_split(own, make, monkeypatch):
    loaded, load = [], train_denoiser.load_split
    monkeypatch.setattr(
        train_denoiser,
        "load_split",
        lambda *args, **options: (
            loaded.append((args[3], options["whole"])) or load(*args, **options)
        ),
    )
    folder = make(own, batch_size=64)
    # Squares, as in training: not RDED's crop of test images.
    assert loaded == [("train", False), ("test", True)]
    metrics = store.read_json(folder / "denoiser.json")["metrics"]
    net = load_denoiser(folder / "denoiser.json", {"precision": "float32"}, Context())
    mean, std = net.encode(all_images(own, "train"))
    # Of samples: the variance of the means, and the mean of the variances.
    assert mean.var() + std.square().mean() == pytest.approx(1, abs=1e-3)
    wanted = []
    for image in all_images(own, "test").split(50):
        error = (net.decode(net.encode(image)[0]) - image).square().mean((1, 2, 3))
        wanted += (20 * np.log10(2 / error.sqrt().numpy())).tolist()
    assert metrics["psnr_test"] == pytest.approx(np.mean(wanted), abs=1e-3)


def test_the_batch_of_forward_passes_changes_only_last_digits(own, make, empty):
    make(own)
    shutil.move(own.directory, empty / "first")
    make(own, batch_size=17)
    assert formats.checksum(own.directory / VAE) == formats.checksum(empty / "first" / VAE)
    first, actual = (
        store.load_tensors(at / NETWORK_FILE) for at in (empty / "first", own.directory)
    )
    for name, tensor in first.items():
        torch.testing.assert_close(actual[name], tensor, atol=1e-3, rtol=1e-3)


def test_a_training_on_a_split_in_a_file_has_the_same_bytes(own, make, monkeypatch):
    folder = make(own)
    names = store.read_spec(folder)["files"]
    in_memory = {name: (folder / name).read_bytes() for name in names}
    shutil.rmtree(folder)
    monkeypatch.setattr(context, "MEMORY_BYTES", 0)
    make(own)
    assert {name: (folder / name).read_bytes() for name in names} == in_memory


def test_another_seed_is_another_denoiser(own, make, planned_denoiser):
    other = planned_denoiser(lambda config: config["denoisers"]["own"].update(seed=1))
    paths = [make(one) / name for name in (VAE, NETWORK_FILE) for one in (own, other)]
    sums = [formats.checksum(path) for path in paths]
    assert sums[0] != sums[1] and sums[2] != sums[3]


@pytest.mark.parametrize("interrupted", ["autoencoder", "network"])
def test_a_resumed_training_has_the_same_bytes(own, make, monkeypatch, capsys, interrupted):
    folder = make(own)
    names = store.read_spec(folder)["files"]
    undisturbed = {name: (folder / name).read_bytes() for name in names}
    shutil.rmtree(folder)
    step, rates = optimizers.Optimizer.step, []

    def interrupting(self, rate):
        rates.append(rate)
        # Four steps of the autoencoder, four of the network.
        if len(rates) == {"autoencoder": 3, "network": 7}[interrupted]:
            raise KeyboardInterrupt
        return step(self, rate)

    monkeypatch.setattr(optimizers.Optimizer, "step", interrupting)
    with pytest.raises(KeyboardInterrupt):
        make(own, checkpoint_seconds=0.0)
    assert not (folder / "denoiser.json").exists()
    capsys.readouterr()
    make(own, checkpoint_seconds=0.0)
    assert len(rates) == {"autoencoder": 3 + 2 + 4, "network": 7 + 2}[interrupted]
    name = {"autoencoder": "autoencoder", "network": "denoiser"}[interrupted]
    assert f"{name}: resumes after step 2" in capsys.readouterr().out
    assert {name: (folder / name).read_bytes() for name in names} == undisturbed


def all_images(artifact, split):
    """Return the images of a denoiser's split in the range of its autoencoder."""
    classes, paths = artifact.settings["classes"], job_inputs(artifact.spec())["images"]
    return to_unit(load_split(paths, classes, 8, split, {}, whole=True)[0])


def test_a_network_is_trained_on_posteriors_and_on_mirrored_ones_if_flipped(
    own, make, planned_denoiser, monkeypatch
):
    posteriors = []
    monkeypatch.setattr(
        train_denoiser, "train_network", lambda net, *p: posteriors.append(p[:2]) or []
    )

    def flip(config):
        config["denoisers"]["own"]["train"]["network"]["flip"] = True

    for artifact, views in ((own, 1), (planned_denoiser(flip), 2)):
        path = make(artifact) / "denoiser.json"
        net = load_denoiser(path, {"precision": "float32"}, Context())
        images, (mean, std) = all_images(artifact, "train"), posteriors.pop()
        assert len(mean) == len(std) == views
        for i, view in enumerate([images, images.flip(3)][:views]):
            for actual, wanted in zip((mean[i], std[i]), net.encode(view), strict=True):
                torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return pipelines.tiny_dit(tmp_path_factory.mktemp("weights") / "dit", classes=8)


def pretrained_artifact(planned_denoiser, digest):
    def change(config):
        config["denoisers"]["dit"]["pretrained"]["sha256"] = digest
        for method in config["methods"].values():
            method["denoiser"] = "dit"

    return planned_denoiser(change)


def test_a_local_folder_is_listed_and_loaded_in_place(planned_denoiser, make, empty, weights):
    files = weight_files(weights, "dit")
    digest = train_denoiser.folder_digest(files)
    artifact = pretrained_artifact(planned_denoiser, digest)
    folder = make(artifact, weight_folders={digest: str(weights)})
    assert store.read_json(folder / "denoiser.json") == {
        "kind": "dit",
        "resolution": 8,
        "class_labels": {"0": 7, "1": 3, "2": 5},
        "weights": {"sha256": digest},
        "files": files,
        "metrics": {},
    }
    assert sorted(p.name for p in folder.iterdir()) == ["denoiser.json", "spec.json", "timing.json"]
    context = Context(weight_folders={digest: str(weights)})
    net = load_denoiser(folder / "denoiser.json", {"precision": "float32"}, context)
    assert net.condition("1").tolist() == [3]


def test_a_wrong_digest_is_reported_with_the_correct_one(planned_denoiser, make, empty, weights):
    digest = train_denoiser.folder_digest(weight_files(weights, "dit"))
    artifact = pretrained_artifact(planned_denoiser, "5" * 64)
    with pytest.raises(StillhouseError, match=digest) as error:
        make(artifact, weight_folders={"5" * 64: str(weights)})
    message = str(error.value)
    assert message.startswith(f"{weights}: ") and "5" * 64 in message
    assert "pretrained.sha256" in message and "\n" not in message
    assert not (artifact.directory / "denoiser.json").exists()


def test_a_hub_is_fetched_and_listed(weights, monkeypatch):
    asked = []
    monkeypatch.setattr(train_denoiser, "fetch", lambda *names: asked.append(names) or weights)
    hub = {"hub": "someone/dit", "revision": "c" * 40}
    settings = {"kind": "dit", "resolution": 8, "class_labels": {"0": 0}, "weights": hub}
    actual = train_denoiser.describe_pretrained(settings, Context())
    assert asked == [("someone/dit", "c" * 40)]
    assert actual["weights"] == hub and actual["files"] == weight_files(weights, "dit")


def test_names_of_a_pretrained_denoiser_are_stored(tmp_path, monkeypatch):
    folder = pipelines.tiny_stable_diffusion(tmp_path / "sd")
    monkeypatch.setattr(train_denoiser, "fetch", lambda *names: folder)
    settings = {
        **{"kind": "stable_diffusion", "resolution": 8, "names": {"0": "zero"}},
        "weights": {"hub": "someone/sd", "revision": "c" * 40},
    }
    actual = train_denoiser.describe_pretrained(settings, Context())
    assert actual["names"] == {"0": "zero"} and "class_labels" not in actual
    assert json.loads(json.dumps(actual)) == actual


def test_the_scheduler_is_that_of_dit():
    assert SCHEDULER["beta_schedule"] == "linear"
    assert (SCHEDULER["beta_start"], SCHEDULER["beta_end"]) == (0.0001, 0.02)


def test_class_numbers_of_a_pretrained_pipeline_are_checked(
    planned_denoiser, make, empty, tmp_path_factory
):
    folder = pipelines.tiny_dit(tmp_path_factory.mktemp("small") / "dit", classes=3)
    digest = train_denoiser.folder_digest(weight_files(folder, "dit"))
    artifact = pretrained_artifact(planned_denoiser, digest)
    with pytest.raises(
        StillhouseError, match=r"invalid number 7 of class '0'; must be less than 3"
    ):
        make(artifact, weight_folders={digest: str(folder)})


def test_missing_weights_are_an_error(planned_denoiser, make, empty, tmp_path_factory):
    folder = pipelines.tiny_dit(tmp_path_factory.mktemp("gap") / "dit", classes=8)
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = store.load_tensors(path)
    lost = next(name for name in tensors if "to_q" in name)
    formats.save_tensors(path, {k: t for k, t in tensors.items() if k != lost})
    digest = train_denoiser.folder_digest(weight_files(folder, "dit"))
    artifact = pretrained_artifact(planned_denoiser, digest)
    with pytest.raises(StillhouseError, match=f"missing weights '{lost}'"):
        make(artifact, weight_folders={digest: str(folder)})
    assert not (artifact.directory / "denoiser.json").exists()
