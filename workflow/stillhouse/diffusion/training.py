"""Training a small denoiser on a source: an autoencoder, then a diffusion transformer.

Autoencoder: Rombach et al., "High-resolution image synthesis with latent diffusion models" (CVPR
2022), without its perceptual and adversarial terms. Transformer: Peebles & Xie, "Scalable diffusion
models with transformers" (ICCV 2023); classifier-free guidance by dropped labels: Ho & Salimans
(2021). Both are diffusers' networks.
"""

import contextlib
import functools

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from stillhouse.artifacts.rng import generator, permutation
from stillhouse.data.transforms import to_unit
from stillhouse.diffusion.noise_schedule import NoiseSchedule
from stillhouse.networks.registry import global_generator
from stillhouse.training import distributed, loop

# DiT's schedule. Samples are not clipped: latents have no bounds.
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "leading",
}
# Tokens up to which the plain attention is the faster one, in bfloat16 on a CPU.
FEW_TOKENS = 64


def build_autoencoder(settings, resolution, seed):
    """Return an untrained diffusers AutoencoderKL.

    Parameters
    ----------
    settings : dict
        ``channels`` (one entry per level, each level but the last halving the side), ``layers``
        per level, ``latent_channels``, ``norm_groups``.
    resolution : int
        Side of the images [px].
    seed : int
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(settings["channels"])
    with global_generator(seed, "autoencoder", "weights"):
        return AutoencoderKL(
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            block_out_channels=settings["channels"],
            layers_per_block=settings["layers"],
            latent_channels=settings["latent_channels"],
            norm_num_groups=settings["norm_groups"],
            sample_size=resolution,
        )


def build_network(settings, channels, side, n_classes, seed):
    """Return an untrained diffusers DiT that predicts noise.

    The table of class embeddings has one more row, the null class. Modulations and the last layer
    are initialised with zeros (DiT, section 3.2: adaLN-Zero).

    Parameters
    ----------
    settings : dict
        ``width``, ``heads``, ``layers``, ``patch_size``.
    channels, side : int
        Of the latents.
    n_classes : int
    seed : int
    """
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    with global_generator(seed, "denoiser", "weights"):
        net = DiTTransformer2DModel(
            num_attention_heads=settings["heads"],
            attention_head_dim=settings["width"] // settings["heads"],
            in_channels=channels,
            out_channels=channels,
            num_layers=settings["layers"],
            sample_size=side,
            patch_size=settings["patch_size"],
            num_embeds_ada_norm=n_classes,
        )
    for block in net.transformer_blocks:
        torch.nn.init.zeros_(block.norm1.linear.weight)
        torch.nn.init.zeros_(block.norm1.linear.bias)
        # diffusers drops labels in each block independently, which leaves almost no sample without
        # class in all blocks. `train_network` drops labels before the network instead.
        block.norm1.emb.class_embedder.dropout_prob = 0.0
    for layer in (net.proj_out_1, net.proj_out_2):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return net


def train_autoencoder(net, images, settings, seed, minimise):
    """Train an autoencoder in place; return its loss curve.

    The loss is the mean squared error of pixels in [-1, 1] plus ``kl_weight`` times the divergence
    of the posterior from the standard Gaussian, in nats per latent value.

    Parameters
    ----------
    net : diffusers.AutoencoderKL
        On its device.
    images : (n, 3, side, side) uint8 tensor
        On the same device.
    settings : dict
        ``channels``, ``steps``, ``batch_size``, ``learning_rate``, ``kl_weight``, ``flip``,
        ``precision``.
    seed : int
    minimise : callable
        A `TrainingLoop`.
    """
    batches = Batches(seed, "autoencoder", len(images), settings["batch_size"])
    group = distributed.group()
    tokens = (images.shape[-1] >> len(settings["channels"]) - 1) ** 2

    def loss(step):
        rows, rng = batches(step)
        size, own = len(rows), group.rows(len(rows))
        flipped = torch.from_numpy(rng.random(size) < settings["flip"])
        pixels = _flipped(to_unit(images[rows[own]]), flipped[own])
        pixels = pixels.contiguous(memory_format=loop.memory_format(settings))
        with loop.autocast(settings, pixels.device), _attention(pixels.device, settings, tokens):
            posterior = net.encode(pixels).latent_dist
            noise = _normals(rng, size, posterior.mean)[own]
            latents = posterior.mean + posterior.std * noise.to(posterior.mean.device)
            decoded = net.decode(latents).sample
        divergence = posterior.mean.square() + posterior.var - 1 - posterior.logvar
        weight = settings["kl_weight"] * 0.5
        return (decoded.float() - pixels).square().mean() + weight * divergence.float().mean()

    return minimise(net, settings, loss)


def train_network(net, mean, std, labels, settings, seed, minimise):
    """Train a DiT in place to predict the noise in posterior samples; return its loss curve.

    Parameters
    ----------
    net : diffusers.DiTTransformer2DModel
    mean, std : (views, n, c, h, w) float32 tensors
        Posteriors of the images, scaled; a second view is mirrored.
    labels : (n,) int64 tensor
    settings : dict
        ``steps``, ``batch_size``, ``learning_rate``, ``label_dropout``, ``precision``, ``ema``.
    seed : int
    minimise : callable
        A `TrainingLoop`.
    """
    schedule = NoiseSchedule.from_config(SCHEDULER)
    n_views, n = mean.shape[:2]
    batches = Batches(seed, "denoiser", n, settings["batch_size"])
    null, group = net.config.num_embeds_ada_norm, distributed.group()
    tokens = (mean.shape[-1] // net.config.patch_size) ** 2

    def loss(step):
        rows, rng = batches(step)
        size, own = len(rows), group.rows(len(rows))
        views = torch.from_numpy(rng.integers(n_views, size=size))
        times = torch.from_numpy(rng.integers(SCHEDULER["num_train_timesteps"], size=size))
        dropped = torch.from_numpy(rng.random(size) < settings["label_dropout"])
        rows, views, times, dropped = (
            drawn[own].to(labels.device) for drawn in (rows, views, times, dropped)
        )
        classes = labels[rows].masked_fill(dropped, null)
        centre = mean[views, rows]
        # Samples, not means: samples are inverted later and must follow the training distribution.
        latents = centre + std[views, rows] * _normals(rng, size, centre)[own].to(rows.device)
        noise = _normals(rng, size, centre)[own].to(rows.device)
        with loop.autocast(settings, centre.device), _attention(centre.device, settings, tokens):
            predicted = net(schedule.add_noise(latents, noise, times), times, classes).sample
        return (predicted.float() - noise).square().mean()

    return minimise(net, settings, loss)


class Batches:
    """Rows and random numbers of a training step, which depend on the step's number alone.

    Parameters
    ----------
    seed : int
    stage : str
    n : int
        Images.
    batch_size : int
        Images per step; at most n.
    """

    def __init__(self, seed, stage, n, batch_size):
        self.seed, self.stage, self.n = seed, stage, n
        self.size = min(batch_size, n)
        self._order = functools.lru_cache(1)(self._epoch)

    def _epoch(self, number):
        order = permutation(generator(self.seed, f"{self.stage} epoch", item=number), self.n)
        return torch.from_numpy(order)

    def __call__(self, step):
        """Return ((size,) int64 rows, NumPy generator) of a step."""
        epoch, place = divmod(step, self.n // self.size)
        rows = self._order(epoch)[place * self.size : (place + 1) * self.size]
        return rows, generator(self.seed, f"{self.stage} step", item=step)


def _normals(rng, n, like):
    """Return standard normals for n rows of the shape of a tensor's rows, on the CPU."""
    return torch.from_numpy(rng.standard_normal((n, *like.shape[1:]), dtype="float32"))


def _attention(device, settings, tokens):
    """Select the kernel of attention: on a GPU, the one with deterministic gradients.

    In bfloat16 on a CPU, the gradients of the fused kernel take 3 times as long as the plain one's
    for 64 tokens, and 8 times for 16 (torch 2.15).
    """
    few = settings["precision"] == "bfloat16" and tokens <= FEW_TOKENS
    plain = device.type == "cuda" or few
    return sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()


def _flipped(images, flipped):
    return torch.where(flipped.to(images.device)[:, None, None, None], images.flip(3), images)
