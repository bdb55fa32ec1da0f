import importlib
import json

import numpy as np
import pipelines
import pytest
import torch
from stillhouse.artifacts.context import Context
from stillhouse.diffusion import ddim, pipeline_scheduler
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.errors import StillhouseError

# As in the scheduler_config.json of Stable Diffusion 1.5.
PNDM = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
PROMPTS = {"precision": "float32", "prompts": ["an image of {}", "an image"]}
LATENTS, NOISE = torch.from_numpy(
    np.random.default_rng(0).standard_normal((2, 3, 4, 4, 4), np.float32)
)


def stable_diffusion(tmp_path, scheduler):
    folder = pipelines.tiny_stable_diffusion(tmp_path / "sd", scheduler)
    path, roots = pipelines.denoiser(folder, "stable_diffusion", tmp_path / "artifact")
    return folder, load_denoiser(path, PROMPTS, Context(weight_folders=roots))


class Recorder:
    """A denoiser that predicts no noise and records the levels of its calls."""

    def __init__(self, folder, scheduler):
        self.folder, self.levels = folder, []
        (folder / "scheduler").mkdir()
        text = json.dumps(pipelines.SCHEDULER | scheduler)
        (folder / "scheduler" / "scheduler_config.json").write_text(text)

    def predict(self, latents, level, condition):
        self.levels.append(level)
        return torch.zeros_like(latents)


def run(denoiser, steps, strength, guidance=1):
    latents = LATENTS.clone()
    return pipeline_scheduler.image_to_image(
        denoiser, latents, NOISE, torch.zeros(1), guidance, steps, strength
    )


@pytest.mark.parametrize("steps, strength", [(50, 0.7), (50, 1.0), (20, 0.31)])
def test_pndm_has_an_offset_and_one_level_twice(tmp_path, steps, strength):
    apart, count = 1000 // steps, int(steps * strength)
    # Of ascending levels 1, 1 + apart, …, the highest but one is evaluated twice.
    levels = [1 + i * apart for i in range(steps)]
    wanted = [*levels[:-1], levels[-2], levels[-1]][::-1][steps - count :]
    denoiser = Recorder(tmp_path, PNDM)
    run(denoiser, steps, strength)
    assert denoiser.levels == wanted
    if strength == 0.7:
        assert (wanted[0], len(wanted)) == (701, 36)
    if strength == 1.0:
        assert wanted[:4] == [981, 961, 961, 941] and len(wanted) == 51


def test_a_strength_below_one_step_changes_nothing(tmp_path):
    denoiser = Recorder(tmp_path, PNDM)
    assert torch.equal(run(denoiser, 10, 0.05), LATENTS) and not denoiser.levels


@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_latents_are_those_of_the_pipeline_of_diffusers(tmp_path, monkeypatch, strength):
    folder, denoiser = stable_diffusion(tmp_path, PNDM)
    name = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img"
    module = importlib.import_module(name)
    scheduler = importlib.import_module("diffusers.schedulers.scheduling_pndm").PNDMScheduler
    pipe = module.StableDiffusionImg2ImgPipeline(
        vae=denoiser.vae,
        text_encoder=None,
        tokenizer=None,
        unet=denoiser.network,
        scheduler=scheduler.from_config(
            json.loads((folder / "scheduler/scheduler_config.json").read_text())
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: NOISE)
    condition = denoiser.condition("1")
    theirs = pipe(
        image=LATENTS,
        strength=strength,
        num_inference_steps=20,
        guidance_scale=4.0,
        prompt_embeds=condition.expand(3, -1, -1),
        negative_prompt_embeds=denoiser.null.expand(3, -1, -1),
        output_type="latent",
    ).images
    ours = pipeline_scheduler.image_to_image(denoiser, LATENTS, NOISE, condition, 4.0, 20, strength)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_scheduler_of_a_ddim_pipeline_is_ddim(tmp_path):
    _, denoiser = stable_diffusion(tmp_path, {})
    own = pipeline_scheduler.image_to_image(
        denoiser, LATENTS, NOISE, denoiser.condition("1"), 2.0, 10, 0.7
    )
    noised = denoiser.schedule.add_noise(LATENTS, NOISE, 600)
    levels = list(range(600, -1, -100))
    by_ddim = ddim.denoise(denoiser, noised, denoiser.condition("1"), 2.0, levels)
    torch.testing.assert_close(own, by_ddim, rtol=1e-4, atol=1e-5)


def test_a_v_prediction_is_converted_once(tmp_path):
    (tmp_path / "scheduler").mkdir()
    text = json.dumps(PNDM | {"prediction_type": "v_prediction"})
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(text)
    scheduler = pipeline_scheduler.load_scheduler(tmp_path)
    assert scheduler.config.prediction_type == "epsilon"


def test_another_scheduler_is_an_error_of_one_line(tmp_path):
    denoiser = Recorder(tmp_path, {"_class_name": "EulerDiscreteScheduler"})
    with pytest.raises(StillhouseError, match="'EulerDiscreteScheduler' conflicts") as caught:
        run(denoiser, 10, 0.5)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
