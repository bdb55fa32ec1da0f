"""Speed of class scoring (DDPS) as a ratio to the network's bare forward passes of the same shapes.

The complete stage function is timed: reading, noise, passes, maps, best patches, the table.
"""

import contextlib
import io
import math

import torch
from pipelines import denoiser, tiny_dit
from stillhouse.artifacts.context import Context
from stillhouse.diffusion import denoisers
from stillhouse.methods.ddps import class_scores
from stillhouse.networks.registry import global_generator
from timing import paired

from tests.methods.ddps.test_class_scores import files

SETTINGS = {
    "latents": "sample",
    "draws": 8,
    "timesteps": [0.1, 0.7],
    "images_per_class": 300,
    "precision": "float32",
}
BATCH = 64
# Rows of the table: side of the latents, of a patch [px, two a place], images, heads and layers.
CASES = {
    "960 scores of uncropped images, 4 × 4 × 4, DiT 128 wide, 3 layers": (4, 0, 120, 4, 3),
    "128 scores of patches, 4 × 16 × 16, DiT 128 wide, 3 layers": (16, 24, 16, 4, 3),
}


def timed(folder, side, patch, n_images, heads, layers):
    """Score one class with a DiT of random weights."""
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    tiny_dit(folder / "net", size=side)
    with global_generator(0, "bench"):
        DiTTransformer2DModel(
            num_attention_heads=heads,
            attention_head_dim=32,
            in_channels=4,
            out_channels=4,
            num_layers=layers,
            sample_size=side,
            patch_size=2,
            num_embeds_ada_norm=10,
        ).save_pretrained(folder / "net" / "transformer")
    path, roots = denoiser(folder / "net", "dit", folder / "denoiser")
    context = Context(device="auto", batch_size=BATCH, weight_folders=roots)
    sizes = [(2 * side, 2 * side)] * n_images
    inputs = {"denoiser": path, **files(folder, "1", sizes, "square", channels=4, side=side)}
    spec = {"settings": {**SETTINGS, "patch": patch}, "keys": {"seed": 0}}
    make = class_scores.class_scores(inputs, spec, context)
    loaded = denoisers.load_denoiser(path, SETTINGS, context)
    latents = torch.randn(2 * BATCH, 4, side, side, device=loaded.device)
    levels = torch.randint(1000, (2 * BATCH,), device=loaded.device)
    labels = torch.randint(10, (2 * BATCH,), device=loaded.device)

    def bare():
        with torch.no_grad():
            for _ in range(math.ceil(n_images * SETTINGS["draws"] / BATCH)):
                loaded.network(latents, timestep=levels, class_labels=labels)
        if loaded.device.type == "cuda":
            torch.cuda.synchronize()

    def ours():
        with contextlib.redirect_stdout(io.StringIO()):
            make("1", context)

    return paired(ours, bare, 7)
