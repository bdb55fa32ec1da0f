"""No operation mixes tensors of a GPU with those of the CPU, found out without a GPU.

torch's fake tensors have a shape and a device, and no content: an operation on tensors of two
devices fails as it would on a GPU. What needs content, a side file or a backward pass, is left to
``tests/gpu``.
"""

import pipelines
import pytest
import torch
from stillhouse.artifacts.jobs import Context
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
def shares(monkeypatch):
    """Have noise levels need no content."""

    def shares(schedule, timesteps, latents):
        one = torch.ones(latents.shape[0], *[1] * (latents.ndim - 1), device=latents.device)
        return one, one

    monkeypatch.setattr(NoiseSchedule, "_shares", shares)


def pretend(net):
    """Put a network's parameters and buffers on a GPU that is not there."""
    for module in net.modules():
        for kept in (module._parameters, module._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    there = torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU)
                    is_parameter = kept is module._parameters
                    kept[name] = torch.nn.Parameter(there) if is_parameter else there
    return net


def losses(net, settings, loss):
    """Stand for a `Loop`."""
    return [loss(step) for step in range(settings["steps"])]


def test_fake_tensors_tell_devices_apart():
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(Exception, match="same device"):
        torch.ones(3, device=GPU) + torch.ones(3)


def test_a_denoiser_is_trained_on_one_device(shares):
    autoencoder = training.build_autoencoder(RECIPE, 16, 0)
    network = training.build_network(RECIPE, 2, 8, 3, 0)
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.zeros((10, 3, 16, 16), dtype=torch.uint8, device=GPU)
        latents = torch.zeros((2, 10, 2, 8, 8), device=GPU)
        labels = torch.zeros(10, dtype=torch.int64, device=GPU)
        train = training.train_autoencoder
        found = train(pretend(autoencoder), images, RECIPE, 0, losses)
        train = training.train_network
        found += train(pretend(network), latents, latents, labels, RECIPE, 0, losses)
        assert {loss.device.type for loss in found} == {"cuda"}


@pytest.fixture(params=["dit", "stable_diffusion"])
def denoiser(request, tmp_path, monkeypatch):
    """Return a function that puts a tiny denoiser on the GPU that is not there."""
    kind = request.param
    tiny = {"dit": pipelines.tiny_dit, "stable_diffusion": pipelines.tiny_stable_diffusion}[kind]
    path, roots = pipelines.denoiser(tiny(tmp_path / kind), kind, tmp_path / "denoiser")
    settings = {"precision": "float32", "prompts": ["an image of {}", ""]}
    found = load_denoiser(path, settings, Context(device="cpu", roots=roots))
    # Loaded now, for good: files have content.
    told, nothing, nets = found.condition("1"), found.null, (found.network, found.vae)

    def there():
        for net in nets:
            pretend(net)
        found.device = GPU
        at = lambda like: torch.empty(like.shape, dtype=like.dtype, device=GPU)  # noqa: E731
        monkeypatch.setattr(found, "condition", lambda class_id: at(told))
        found.null = at(nothing)
        return found

    return there


def test_images_are_scored_on_one_device(denoiser, shares, tmp_path):
    with FakeTensorMode(allow_non_fake_inputs=True):
        net = denoiser()
        stack = torch.zeros(5, net.network.config.in_channels, 8, 8)
        settings = {"draws": 2, "timesteps": [0.1, 0.7]}
        context = Context(work=tmp_path, batch_size=4)
        (scores,) = class_scores.score_maps([stack], net, "1", settings, 0, context)
        assert scores.shape == (5, 8, 8)
