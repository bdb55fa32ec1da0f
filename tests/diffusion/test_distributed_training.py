"""Several processes train autoencoder and denoiser as one does, within a tolerance."""

import contextlib
import math

import numpy as np
import pytest
import torch
from forks import together
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.context import Context
from stillhouse.diffusion import training, training_loop
from stillhouse.training import distributed

RECIPE = {
    **{"channels": [4, 4], "layers": 1, "norm_groups": 2, "latent_channels": 2},
    **{"width": 8, "heads": 2, "patch_size": 2, "kl_weight": 0.01, "label_dropout": 0.5},
    **{"steps": 20, "flip": 0.5, "learning_rate": 0.002, "precision": "float32", "ema": 0.9},
}
# Of losses, of weights.
LOSSES, WEIGHTS = 1e-5, 1e-3


@contextlib.contextmanager
def loop(name, folder, seconds):
    """Yield a `TrainingLoop` with few steps per point; process 0 alone stores its checkpoints."""
    seconds = math.inf if distributed.group().rank else seconds
    checkpoint = Checkpoint(Context(work=folder, checkpoint_seconds=seconds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop, "STEPS_PER_POINT", 10)
        yield training_loop.TrainingLoop(name, checkpoint)


def autoencoder(folder, seconds=1e9, n=10, **changes):
    """Train an autoencoder on n images; return its curve and tensors."""
    settings, rng = {**RECIPE, **changes}, np.random.default_rng(0)
    net = training.build_autoencoder(settings, 8, 0)
    images = torch.from_numpy(rng.integers(0, 256, (n, 3, 8, 8), "uint8"))
    with loop("autoencoder", folder, seconds) as minimise:
        curve = training.train_autoencoder(net, images, settings, 0, minimise)
    return curve, net.state_dict()


def network(folder, seconds=1e9, n=10, **changes):
    """Train a noise predictor on n latents; return its curve and tensors."""
    settings, rng = {**RECIPE, **changes}, np.random.default_rng(1)
    net = training.build_network(settings, 2, 4, 3, 0)
    mean, std = torch.from_numpy(rng.standard_normal((2, 2, n, 2, 4, 4), np.float32))
    arguments = (mean, std.abs(), torch.arange(n) % 3, settings, 0)
    with loop("denoiser", folder, seconds) as minimise:
        curve = training.train_network(net, *arguments, minimise)
    return curve, net.state_dict()


def check_equal(actual, wanted):
    """Compare curves and tensors."""
    (curve, tensors), (wanted_curve, wanted_tensors) = actual, wanted
    assert len(curve) == 2 and curve == pytest.approx(wanted_curve, rel=LOSSES)
    for name, tensor in wanted_tensors.items():
        torch.testing.assert_close(tensors[name], tensor, rtol=WEIGHTS, atol=WEIGHTS)


@pytest.mark.parametrize(("train", "batch_size"), [(autoencoder, 5), (network, 5), (network, 1)])
def test_a_network_is_that_of_one_process(tmp_path, train, batch_size):
    """With one image per step, each process computes it."""
    wanted = train(tmp_path, batch_size=batch_size)
    check_equal(together(2, train, tmp_path, batch_size=batch_size), wanted)


def interrupted(folder):
    """Train a noise predictor for 9 steps, with a checkpoint after each."""
    step, steps = training_loop.Optimizer.step, []

    def failing(self, rate):
        steps.append(rate)
        if len(steps) == 10:
            raise KeyboardInterrupt
        return step(self, rate)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training_loop.Optimizer, "step", failing)
        network(folder, 0.0, batch_size=4)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_training_resumes_with_another_number_of_processes(tmp_path, capsys, before, after):
    wanted = network(tmp_path / "undisturbed", batch_size=4)
    together(before, interrupted, tmp_path / "work")
    capsys.readouterr()
    check_equal(together(after, network, tmp_path / "work", batch_size=4), wanted)
    assert "denoiser: resumes after step 9" in capsys.readouterr().out
