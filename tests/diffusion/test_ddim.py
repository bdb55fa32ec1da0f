import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler
from stillhouse.diffusion.ddim import denoise, guided, invert, sample
from stillhouse.diffusion.noise_schedule import CLEAN, NoiseSchedule
from stillhouse.errors import StillhouseError

STEPS, COUNT = 50, 31
CONFIG = {"beta_schedule": "linear", "clip_sample": False, "timestep_spacing": "leading"}


class Dummy:
    """A denoiser whose noise is any function of latents, level and condition."""

    def __init__(self, function):
        self.schedule = NoiseSchedule.from_config(CONFIG)
        self.null = torch.tensor([[0.0, 0.0]])
        self.function, self.levels, self.sizes = function, [], []

    def predict(self, latents, timestep, condition):
        assert len(latents) == len(condition)
        self.levels.append(timestep)
        self.sizes.append(len(latents))
        return self.function(latents, timestep, condition[:, 0].view(-1, 1, 1, 1))


def still(x, t, c):
    """Return noise independent of the latent, so that steps can be inverted exactly."""
    return torch.sin(torch.arange(x[0].numel()).view(x[0].shape) + t / 100) + c + 0 * x


def lively(x, t, c):
    return torch.tanh(x.roll(1, 3) + t / 1000 + c)


CONDITION = torch.tensor([[0.5, 1.0]])
LATENTS = torch.linspace(-2, 2, 2 * 4 * 4 * 4).view(2, 4, 4, 4)


@pytest.mark.parametrize("guidance", [1, 1.5, 4.0])
def test_denoising_inverts_the_inversion(guidance):
    net = Dummy(still)
    up = invert(net, LATENTS, CONDITION, guidance, STEPS, [20, COUNT])
    assert list(up) == [20, COUNT]
    assert not torch.allclose(up[COUNT], LATENTS, atol=0.5)
    for count, latents in up.items():
        down = sample(net, latents, CONDITION, guidance, STEPS, count)
        torch.testing.assert_close(down, LATENTS, atol=2e-5, rtol=0)


def test_the_papers_loops_predict_at_every_level():
    net = Dummy(lively)
    up = invert(net, LATENTS, CONDITION, 4.0, STEPS, [COUNT])
    assert net.levels == list(range(0, 601, 20)) and set(net.sizes) == {4}
    net.levels.clear()
    sample(net, up[COUNT], CONDITION, 4.0, STEPS, COUNT)
    assert net.levels == list(range(600, -1, -20))


def test_the_codes_loops_start_one_level_higher():
    net = Dummy(lively)
    up = invert(net, LATENTS, CONDITION, 4.0, STEPS, [COUNT], "zero")
    assert net.levels == list(range(20, 601, 20))
    net.levels.clear()
    sample(net, up[COUNT], CONDITION, 4.0, STEPS, COUNT, "next")
    assert net.levels == list(range(620, -1, -20))


def by_hand(net, x, pairs):
    """Take DDIM steps between the (from, to, level) of `pairs`, as in the papers."""
    alpha = net.schedule.alpha
    for start, end, level in pairs:
        null = net.function(x, level, 0.0)
        noise = null + 4.0 * (net.function(x, level, 0.5) - null)
        clean = (x - math.sqrt(1 - alpha(start)) * noise) / math.sqrt(alpha(start))
        x = math.sqrt(alpha(end)) * clean + math.sqrt(1 - alpha(end)) * noise
    return x


def test_the_codes_steps_agree_with_steps_written_by_hand():
    net = Dummy(lively)
    up = invert(net, LATENTS, CONDITION, 4.0, STEPS, [COUNT], "zero")[COUNT]
    pairs = [(t - 20, t, t) for t in range(20, 601, 20)]
    torch.testing.assert_close(up, by_hand(net, LATENTS, pairs), atol=1e-4, rtol=1e-4)
    down = sample(net, up, CONDITION, 4.0, STEPS, COUNT, "next")
    pairs = [(t, max(1, t - 20), t) for t in range(620, -1, -20)]
    torch.testing.assert_close(down, by_hand(net, up, pairs), atol=1e-4, rtol=1e-4)


def test_loops_are_those_of_the_schedulers_of_diffusers():
    net, guidance = Dummy(lively), 4.0
    inverse, forward = DDIMInverseScheduler(**CONFIG), DDIMScheduler(**CONFIG)
    x = LATENTS
    for kind, part in ((inverse, slice(COUNT)), (forward, slice(STEPS - COUNT, STEPS))):
        kind.set_timesteps(STEPS)
        for t in kind.timesteps[part].tolist():
            null = lively(x, t, 0)
            x = kind.step(null + guidance * (lively(x, t, 0.5) - null), t, x).prev_sample
        if kind is inverse:
            up = invert(net, LATENTS, CONDITION, guidance, STEPS, [COUNT])[COUNT]
            torch.testing.assert_close(up, x, atol=1e-4, rtol=1e-4)
    down = sample(net, up, CONDITION, guidance, STEPS, COUNT)
    torch.testing.assert_close(down, x, atol=1e-3, rtol=1e-3)


def test_guidance_one_predicts_with_the_condition_alone():
    net = Dummy(lively)
    null, conditional = lively(LATENTS, 40, 0), lively(LATENTS, 40, 0.5)
    torch.testing.assert_close(guided(net, LATENTS, 40, CONDITION, 3.0), 3 * conditional - 2 * null)
    assert net.sizes == [4]
    assert torch.equal(guided(net, LATENTS, 40, CONDITION, 1.0), conditional)
    assert net.sizes == [4, 2]
    torch.testing.assert_close(guided(net, LATENTS, 40, CONDITION, 0.0), null)
    two = torch.tensor([[0.5, 0.0], [0.2, 0.0]])
    each = torch.cat([conditional[:1], lively(LATENTS[1:], 40, 0.2)])
    torch.testing.assert_close(guided(net, LATENTS, 40, two, 1), each)


def test_snapshots_do_not_depend_on_each_other():
    net = Dummy(lively)
    many = invert(net, LATENTS, CONDITION, 2.0, STEPS, [1, 5, COUNT])
    for count in many:
        alone = invert(net, LATENTS, CONDITION, 2.0, STEPS, [count])
        assert torch.equal(alone[count], many[count])
    assert torch.equal(invert(net, LATENTS, CONDITION, 2.0, STEPS, [1], "zero")[1], LATENTS)


def test_latents_are_unchanged_without_levels():
    net = Dummy(lively)
    assert torch.equal(denoise(net, LATENTS, CONDITION, 2.0, []), LATENTS)
    assert net.levels == []
    last = denoise(net, LATENTS, CONDITION, 1, [40])
    wanted = net.schedule.move(LATENTS, lively(LATENTS, 40, 0.5), 40, CLEAN)
    torch.testing.assert_close(last, wanted)


def test_levels_above_the_grid_are_errors():
    net = Dummy(lively)
    with pytest.raises(StillhouseError, match="level 11: outside the grid of 10 steps"):
        invert(net, LATENTS, CONDITION, 1, 10, [11])
    with pytest.raises(StillhouseError, match="level 11: outside the grid of 10 steps"):
        sample(net, LATENTS, CONDITION, 1, 10, 10, "next")
