"""Prototypes: cluster centres of a class's latents, which D4M decodes to images.

Su et al., "D⁴M: Dataset Distillation via Disentangled Diffusion Model" (CVPR 2024); official code
suduo94/D4M at da35d10, gen_prototype.py.
"""

import numpy as np
import torch

from stillhouse.artifacts.rng import generator
from stillhouse.diffusion import latents
from stillhouse.errors import StillhouseError


def prototypes(inputs, spec, context):
    """Stage: compute IPC cluster centres of the latents of each class, (ipc, c, h, w) float32."""
    settings, ipc, seed = spec["settings"], spec["keys"]["ipc"], spec["keys"]["seed"]

    def make(class_id, context):
        stored = latents.read(inputs["latents"][class_id])
        stack = stored.stacked(settings["latents"], class_id)
        if len(stack) < ipc:
            raise StillhouseError(
                f"class {class_id!r}: {len(stack)} images are too few for {ipc} prototypes; "
                f"ipc must be at most {len(stack)}"
            )
        points = np.asarray(stack, np.float64).reshape(len(stack), -1)
        rng = generator(seed, "prototypes", class_id)
        fitted = centres(points, ipc, settings["fit"], settings.get("expand"), rng)
        fitted = torch.from_numpy(fitted.astype(np.float32)).reshape(ipc, *stack.shape[1:])
        return {"prototypes.safetensors": {"latents": fitted}}

    return make


def centres(points, count, fit, expand, rng):
    """Return cluster centres by scikit-learn's mini-batch k-means.

    The sums depend on the number of threads, which the job limits.

    Parameters
    ----------
    points : (n, d) float64 array
    count : int
        At most n.
    fit : str
        ``full``: fitted to all points (paper), for one centre their mean. ``partial``: one step per
        expand · count points in their order, without the remainder (official code); one step for
        fewer points.
    expand : int
        Factor of ``partial``; 1 in the official script for ImageNet.
    rng : numpy.random.Generator

    Returns
    -------
    (count, d) float64
    """
    from sklearn.cluster import MiniBatchKMeans

    if fit == "full" and count == 1:
        return points.mean(0, keepdims=True)
    model = MiniBatchKMeans(count, random_state=int(rng.integers(2**31)), n_init=1)
    if fit == "full":
        return model.fit(points).cluster_centers_
    step = min(expand * count, len(points))
    for first in range(0, len(points) - step + 1, step):
        model.partial_fit(points[first : first + step])
    return model.cluster_centers_
