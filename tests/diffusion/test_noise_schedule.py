import math

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from stillhouse.diffusion.noise_schedule import CLEAN, NoiseSchedule
from stillhouse.errors import StillhouseError

STEPS, COUNT = 50, 31
CONFIGS = {
    "linear": {"beta_schedule": "linear"},
    "first level": {"beta_schedule": "linear", "set_alpha_to_one": False},
    "stable diffusion": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "set_alpha_to_one": False,
    },
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "v": {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"},
    "trained": {"trained_betas": np.linspace(0.001, 0.05, 200).tolist()},
    "short": {"num_train_timesteps": 400, "beta_end": 0.04},
}


def diffusers(kind, config):
    betas = config.get("trained_betas")
    settings = {**config, "num_train_timesteps": len(betas)} if betas else config
    return kind.from_config({"clip_sample": False, "timestep_spacing": "leading", **settings})


def latents(n=3):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.standard_normal((n, 4, 5, 5), np.float32))


def network(x, t):
    """Return noise that depends on the latent and on the level."""
    return torch.tanh(x.roll(1, 3) * 1.3 + t / 1000)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_levels_are_those_of_diffusers(config):
    ours, theirs = NoiseSchedule.from_config(config), diffusers(DDIMScheduler, config)
    assert ours.alphas.dtype == np.float64
    np.testing.assert_array_equal(ours.alphas, theirs.alphas_cumprod)
    assert ours.alpha(CLEAN) == pytest.approx(theirs.final_alpha_cumprod.item(), rel=1e-5)
    theirs.set_timesteps(STEPS)
    assert ours.grid(STEPS)[::-1] == theirs.timesteps.tolist()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_going_down_is_ddim(config):
    ours, theirs = NoiseSchedule.from_config(config), diffusers(DDIMScheduler, config)
    theirs.set_timesteps(STEPS)
    levels = ours.grid(STEPS)[:COUNT][::-1]
    x = y = latents()
    for t, target in zip(levels, [*levels[1:], CLEAN], strict=True):
        noise = ours.to_noise(network(x, t), x, t)
        x = ours.move(x, noise, t, target)
        y = theirs.step(network(y, t), t, y).prev_sample
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_going_up_is_inverse_ddim(config):
    ours, theirs = NoiseSchedule.from_config(config), diffusers(DDIMInverseScheduler, config)
    theirs.set_timesteps(STEPS)
    assert theirs.timesteps.tolist() == ours.grid(STEPS)
    x, y, at = latents(), latents(), CLEAN
    for t in ours.grid(STEPS)[:COUNT]:
        # For a v-prediction, diffusers computes the noise at the level of the latents.
        signal = math.sqrt(ours.alpha(at)), math.sqrt(1 - ours.alpha(at))
        noise = network(x, t)
        if ours.prediction == "v_prediction":
            noise = signal[0] * noise + signal[1] * x
        x, at = ours.move(x, noise, at, t), t
        y = theirs.step(network(y, t), t, y).prev_sample
    torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_noise_is_added_as_by_ddpm(config):
    ours, theirs = NoiseSchedule.from_config(config), diffusers(DDPMScheduler, config)
    clean, noise = latents(), latents().flip(0)
    last = len(ours.alphas) - 1
    times = torch.tensor([0, 7, last])
    actual = ours.add_noise(clean, noise, times)
    torch.testing.assert_close(actual, theirs.add_noise(clean, noise, times), rtol=1e-4, atol=1e-5)
    for i, t in enumerate(times.tolist()):
        torch.testing.assert_close(ours.add_noise(clean, noise, t)[i], actual[i])


def test_a_step_with_the_true_noise_lands_on_the_noised_latent():
    schedule = NoiseSchedule.from_config({})
    clean, noise = latents(), latents().flip(0)
    assert torch.equal(schedule.move(clean, noise, 40, 40), clean)
    for low, high in ((CLEAN, 600), (20, 620), (1, 999)):
        start = clean if low == CLEAN else schedule.add_noise(clean, noise, low)
        moved = schedule.move(start, noise, low, high)
        torch.testing.assert_close(moved, schedule.add_noise(clean, noise, high))
        torch.testing.assert_close(schedule.move(moved, noise, high, low), start, atol=1e-4, rtol=0)


def test_v_predictions_carry_the_noise():
    schedule = NoiseSchedule.from_config({"prediction_type": "v_prediction"})
    clean, noise, times = latents(), latents().flip(0), torch.tensor([5, 500, 990])
    noised = schedule.add_noise(clean, noise, times)
    v = diffusers(DDPMScheduler, {}).get_velocity(clean, noise, times)
    torch.testing.assert_close(schedule.to_noise(v, noised, times), noise, atol=1e-3, rtol=0)
    actual = schedule.to_noise(v[1:2], noised[1:2], 500)
    torch.testing.assert_close(actual, noise[1:2], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule: unknown 'sigmoid'; must be one of linear"),
        ({"prediction_type": "sample"}, "prediction_type: invalid 'sample'; must be epsilon"),
        ({"rescale_betas_zero_snr": True}, "must be false"),
    ],
)
def test_an_unsupported_scheduler_is_an_error(config, message):
    with pytest.raises(StillhouseError, match=message) as error:
        NoiseSchedule.from_config(config, "here.json")
    assert str(error.value).startswith("here.json: ") and "\n" not in str(error.value)


def test_levels_and_grids_have_ends():
    schedule = NoiseSchedule.from_config({})
    for t in (-2, 1000):
        with pytest.raises(IndexError):
            schedule.alpha(t)
    for steps in (0, 1001):
        with pytest.raises(StillhouseError, match="must be 1 to 1000"):
            schedule.grid(steps)
    assert schedule.grid(3) == [0, 333, 666]
