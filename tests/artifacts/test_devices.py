"""No operation mixes tensors of a GPU with those of the CPU; tested without a GPU.

torch's fake tensors have a shape and a device, and no content: an operation on tensors of two
devices fails as it would on a GPU. Checkpoints and backward passes need content and are tested in
``tests/gpu``.
"""

import pipelines
import pytest
import torch
from stillhouse.artifacts.context import Context
from stillhouse.diffusion import training
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.methods.ddps import class_scores
from torch._subclasses.fake_tensor import FakeTensorMode

GPU = torch.device("cuda")
RECIPE = {
    **{"channels": [4, 4], "layers": 1, "norm_groups": 2, "latent_channels": 2},
    **{"width": 8, "heads": 2, "patch_size": 2, "kl_weight": 0.01, "label_dropout": 0.5},
    **{"steps": 2, "batch_size": 4, "flip": 0.5, "precision": "float32"},
}


@pytest.fixture
def contentless_schedule(monkeypatch):
    """Replace the parts of a noise schedule that read tensors."""
    schedule = NoiseSchedule.from_config(training.SCHEDULER)

    def shares(schedule, timesteps, latents):
        ones = torch.ones(latents.shape[0], *[1] * (latents.ndim - 1), device=latents.device)
        return ones, ones

    monkeypatch.setattr(NoiseSchedule, "from_config", lambda config: schedule)
    monkeypatch.setattr(NoiseSchedule, "_shares", shares)


def pretend(net):
    """Put fake parameters and buffers of a network on a nonexistent GPU."""
    for module in net.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU)
                    is_parameter = tensors is module._parameters
                    tensors[name] = torch.nn.Parameter(fake) if is_parameter else fake
    return net


def losses(net, settings, loss):
    """Replace a `TrainingLoop`."""
    return [loss(step) for step in range(settings["steps"])]


def test_fake_tensors_of_two_devices_do_not_mix():
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(Exception, match="same device"):
        torch.ones(3, device=GPU) + torch.ones(3)


def test_a_denoiser_is_trained_on_one_device(contentless_schedule):
    autoencoder = training.build_autoencoder(RECIPE, 16, 0)
    network = training.build_network(RECIPE, 2, 8, 3, 0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.zeros((10, 3, 16, 16), dtype=torch.uint8, device=GPU)
        latents = torch.zeros((2, 10, 2, 8, 8), device=GPU)
        labels = torch.zeros(10, dtype=torch.int64, device=GPU)
        train = training.train_autoencoder
        curve = train(pretend(autoencoder), images, RECIPE, 0, losses)
        train = training.train_network
        curve += train(pretend(network), latents, latents, labels, RECIPE, 0, losses)
        assert {loss.device.type for loss in curve} == {"cuda"}


@pytest.fixture(params=["dit", "stable_diffusion"])
def denoiser(request, tmp_path, monkeypatch):
    """Return a function that puts a tiny denoiser on a nonexistent GPU."""
    kind = request.param
    tiny = {"dit": pipelines.tiny_dit, "stable_diffusion": pipelines.tiny_stable_diffusion}[kind]
    path, folders = pipelines.denoiser(tiny(tmp_path / kind), kind, tmp_path / "denoiser")
    settings = {"precision": "float32", "prompts": ["an image of {}", ""]}
    loaded = load_denoiser(path, settings, Context(device="cpu", weight_folders=folders))
    # Loaded outside the fake mode: files have content.
    condition, null, nets = loaded.condition("1"), loaded.null, (loaded.network, loaded.vae)

    def fake(tensor):
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU)

    def on_gpu():
        for net in nets:
            pretend(net)
        loaded.device = GPU
        monkeypatch.setattr(loaded, "condition", lambda class_id: fake(condition))
        loaded.null = fake(null)
        return loaded

    return on_gpu


def test_images_are_scored_on_one_device(denoiser, contentless_schedule, tmp_path):
    with FakeTensorMode(allow_non_fake_inputs=True):
        net = denoiser()
        stack = torch.zeros(5, net.network.config.in_channels, 8, 8)
        settings = {"draws": 2, "timesteps": [0.1, 0.7]}
        context = Context(work=tmp_path, batch_size=4)
        (scores,) = class_scores.score_maps([stack], net, "1", settings, 0, context)
        assert scores.shape == (5, 8, 8)
