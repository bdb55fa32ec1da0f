"""Denoisers: an autoencoder and a noise-predicting network in the diffusers layout.

``dit``: AutoencoderKL and DiTTransformer2DModel, conditioned on a class (Peebles and Xie, ICCV
2023). ``stable_diffusion``: AutoencoderKL, UNet2DConditionModel, CLIP text encoder and tokenizer
(Rombach et al., CVPR 2022). Networks are imported and loaded on first use: latents need the
autoencoder only.
"""

import math
from functools import cached_property
from pathlib import Path

import torch

from stillhouse.artifacts import store
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.diffusion.pretrained import checked_folder, load_complete, load_diffusers
from stillhouse.errors import StillhouseError
from stillhouse.training.loop import freeze

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Denoiser:
    """A diffusion model with one interface for all kinds; see `load_denoiser`.

    Attributes
    ----------
    schedule : stillhouse.diffusion.noise_schedule.NoiseSchedule
    resolution : int
        Side of its training images [px].
    factor : int
        Pixels per position of the latent grid, along one side.
    channels : int
        Of a latent.
    null : (1, ...) tensor
        The unconditional input.
    """

    def __init__(self, folder, described, settings, device):
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        self.folder, self.settings = folder, settings
        self.device, self.half = device, PRECISIONS.get(settings["precision"])
        self.vae = self._prepare(load_diffusers(AutoencoderKL, folder / "vae"))
        self.schedule = NoiseSchedule.read(folder / "scheduler" / "scheduler_config.json")
        self.resolution, self.conditions = described["resolution"], described[self.condition_key]
        self._embeddings = {}
        self.factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.channels = self.vae.config.latent_channels
        self._scale = self.vae.config.scaling_factor
        self._shift = self.vae.config.shift_factor or 0.0

    def _prepare(self, module):
        """Return a frozen network on the device, in its precision and layout."""
        module = freeze(module).to(self.device)
        if self.half is not None:
            # Autocast would cast these at every call, since it does not cache frozen weights.
            for layer in module.modules():
                if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)):
                    layer.to(self.half)
        # The layout speeds up convolutions; a transformer has a single one.
        convolutional = any(isinstance(layer, torch.nn.GroupNorm) for layer in module.modules())
        if convolutional and self.device.type == "cuda":
            return module.to(memory_format=torch.channels_last)
        return module

    def _autocast(self):
        return torch.autocast(self.device.type, self.half, enabled=self.half is not None)

    @torch.no_grad()
    def encode(self, images):
        """Return mean and standard deviation of the latents of images.

        Parameters
        ----------
        images : (n, 3, height, width) float32 in [-1, 1]
            Sides are multiples of `factor`.

        Returns
        -------
        mean, std : (n, channels, height / factor, width / factor) float32
            In the units of the network's input: scaled.
        """
        with self._autocast():
            moments = self.vae.encode(images.to(self.device)).latent_dist.parameters
        self.check_finite(moments, "latents of the autoencoder's encoder")
        mean, log_variance = moments.float().chunk(2, dim=1)
        std = torch.exp(0.5 * log_variance.clamp(-30, 20))
        return (mean - self._shift) * self._scale, std * self._scale

    @torch.no_grad()
    def decode(self, latents):
        """Return the images of latents, (n, 3, height, width) float32 in [-1, 1]."""
        latents = latents.to(self.device) / self._scale + self._shift
        with self._autocast():
            images = self.vae.decode(latents).sample
        self.check_finite(images, "images of the autoencoder's decoder")
        return images.float().clamp(-1, 1)

    def check_finite(self, values, name):
        """Raise a `StillhouseError` if values that a network computed are not finite.

        For the ends of loops: it waits for the device, and NaN is carried through all steps.

        Parameters
        ----------
        values : tensor
        name : str
            Plural noun for the values, for the message.
        """
        if all(math.isfinite(extreme.item()) for extreme in values.aminmax()):
            return
        precision = self.settings["precision"]
        remedy = (
            "check the weights" if precision == "float32" else "set precision: bfloat16 or float32"
        )
        if precision == "bfloat16":
            remedy = "set precision: float32, or check the weights"
        raise StillhouseError(
            f"denoisers: precision: {name} are not finite in {precision} ({self.folder}); {remedy}"
        )

    @torch.no_grad()
    def predict(self, latents, timestep, condition):
        """Return the noise that the network predicts in latents.

        Parameters
        ----------
        latents : (n, channels, h, w) float32
        timestep : int or (n,) int64
            Their noise level, 0 to T - 1.
        condition : (n, ...) tensor
            From `condition` or `null`.

        Returns
        -------
        (n, channels, h, w) float32
        """
        latents = latents.to(self.device)
        output = self._run(latents, timestep, condition)
        # A predicted variance, if any, is the second half of the channels.
        output = output[:, : latents.shape[1]].float()
        return self.schedule.to_noise(output, latents, timestep)

    @torch.no_grad()
    def features(self, latents, timestep, condition, layer):
        """Return the activations of a layer for noisy latents; later layers do not run.

        Parameters
        ----------
        latents, timestep, condition
            As for `predict`.
        layer : int
            ``dit``: a transformer block; ``stable_diffusion``: an upward block of the U-Net.

        Returns
        -------
        (n, width, h', w') float32
        """
        blocks = self._layers()
        if not 0 <= layer < len(blocks):
            raise StillhouseError(
                f"features.layer: invalid {layer}; must be 0 to {len(blocks) - 1} for this denoiser"
            )
        hook = blocks[layer].register_forward_hook(_stop)
        try:
            self._run(latents.to(self.device), timestep, condition)
        except _Reached as reached:
            return self._fold(reached.args[0].float(), latents)
        finally:
            hook.remove()

    def _fold(self, output, latents):
        return output

    def _condition_of(self, class_id):
        """Return the label number or name of a class."""
        if class_id not in self.conditions:
            examples = ", ".join(repr(name) for name in sorted(self.conditions)[:5])
            raise StillhouseError(
                f"class {class_id!r}: unknown to the denoiser; must be one of its "
                f"{len(self.conditions)} classes: {examples}"
            )
        return self.conditions[class_id]

    def _run(self, latents, timestep, condition):
        times = torch.as_tensor(timestep, device=self.device).expand(len(latents))
        with self._autocast():
            return self._forward(latents, times, condition)


class Dit(Denoiser):
    """A diffusion transformer conditioned on a class number.

    The last class embedding is the null class. Evaluation mode disables the dropout of labels in
    diffusers' blocks.
    """

    condition_key = "class_labels"

    @cached_property
    def network(self):
        """The noise predictor."""
        from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

        return self._prepare(load_diffusers(DiTTransformer2DModel, self.folder / "transformer"))

    @cached_property
    def null(self):
        """The number of the null class, (1,) int64."""
        return torch.tensor([self.network.config.num_embeds_ada_norm], device=self.device)

    def condition(self, class_id):
        """Return the number of a class, (1,) int64."""
        return torch.tensor([self._condition_of(class_id)], device=self.device)

    def _forward(self, latents, times, condition):
        if latents.shape[2] != latents.shape[3]:
            raise StillhouseError(
                f"latents of {latents.shape[2]} × {latents.shape[3]}: conflict with kind dit, "
                "which supports only squares; latents.shape must be square"
            )
        return self.network(latents, timestep=times, class_labels=condition).sample

    def _layers(self):
        return self.network.transformer_blocks

    def _fold(self, output, latents):
        height, width = (side // self.network.config.patch_size for side in latents.shape[2:])
        return output.transpose(1, 2).unflatten(2, (height, width))


class StableDiffusion(Denoiser):
    """A U-Net conditioned on a text.

    The text encoder stays on the CPU in float32 and encodes each text once, in a batch of one, so
    that embeddings do not depend on the device of the other networks.
    """

    condition_key = "names"

    @cached_property
    def network(self):
        """The noise predictor."""
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return self._prepare(load_diffusers(UNet2DConditionModel, self.folder / "unet"))

    @cached_property
    def null(self):
        """The embedding of the null prompt, (1, tokens, width) float32."""
        return self._embed(self.settings["prompts"][1])

    def condition(self, class_id):
        """Return the embedding of the prompt of a class, (1, tokens, width) float32."""
        return self._embed(self.settings["prompts"][0].replace("{}", self._condition_of(class_id)))

    @torch.no_grad()
    def _embed(self, text):
        if text not in self._embeddings:
            tokenizer, encoder = self._text
            tokens = tokenizer(
                text,
                return_tensors="pt",
                padding="max_length",
                max_length=encoder.config.max_position_embeddings,
                truncation=True,
            )
            embedding = encoder(tokens.input_ids).last_hidden_state
            self._embeddings[text] = embedding.to(self.device)
        return self._embeddings[text]

    @cached_property
    def _text(self):
        from transformers.models.clip.modeling_clip import CLIPTextModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        encoder = load_complete(CLIPTextModel, self.folder / "text_encoder")
        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        return tokenizer, freeze(encoder.float())

    def _forward(self, latents, times, condition):
        return self.network(latents, times, encoder_hidden_states=condition).sample

    def _layers(self):
        return self.network.up_blocks


KINDS = {"dit": Dit, "stable_diffusion": StableDiffusion}


class _Reached(Exception):
    """The output of a layer, raised to end a forward pass early."""


def _stop(module, inputs, output):
    raise _Reached(output)


def load_denoiser(path, settings, context):
    """Return the denoiser of an artifact, after checking its files.

    Parameters
    ----------
    path : Path
        ``denoiser.json``: ``kind``, ``resolution``, ``class_labels`` or ``names``, and its files.
    settings : dict
        ``precision``: float32, or bfloat16 or float16 for the networks' inner arithmetic;
        ``prompts`` of stable_diffusion: that of a class, with {} for its name, and the null prompt.
    context : stillhouse.artifacts.context.Context
        ``weight_folders``: folder of local weights by their digest.

    Raises
    ------
    StillhouseError
        If a file is missing or has changed.
    """
    described = store.read_json(path)
    folder = checked_folder(Path(path), described, context.weight_folders)
    return KINDS[described["kind"]](folder, described, settings, context.torch_device())
