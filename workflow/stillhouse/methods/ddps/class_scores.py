"""Class scores: local reduction of a denoiser's error by the class condition ("typicality").

Zhong et al., "Efficient Dataset Distillation via Diffusion-Driven Patch Selection" (DDPS, arXiv
2412.09959), section 3.2 and Algorithm 1. No official code is known. Details that the paper leaves
open follow Siglidis et al., "Diffusion Models as Data Mining Tools" (ECCV 2024), whose pipeline
DDPS uses (code ysig/diff-mining at 0e4c863).
"""

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import avg_pool1d, interpolate

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import BOX_COLUMNS, centre_box, region_of
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.diffusion import latents
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.patches import BOX_FIELDS, preselect

# Images per class whose score maps are stored, for figures.
N_MAPS = 10
# Columns of a patch of an image and its score.
PATCH = [("image_id", pa.string()), *BOX_FIELDS, ("score", pa.float32())]
SCHEMA = pa.schema([*PATCH, ("map_height", pa.int32()), ("map", pa.list_(pa.float16()))])


def class_scores(inputs, spec, context):
    """Stage: score T' images of each class, and select the most typical patch of each.

    A score is the mean over draws of L(null) - L(class), so higher is more typical.
    # paper: R = L(class) - L(null), eq. 6, and the largest R is selected; here: the opposite sign,
    # because p(class) = 1 / (1 + exp R), eq. 5, falls with R, and diff-mining ranks by -R.
    """
    return ClassScores(inputs, spec, context)


class ClassScores:
    """Class scores of a denoiser, computed class by class."""

    def __init__(self, inputs, spec, context):
        self.inputs, self.settings, self.seed = inputs, spec["settings"], spec["keys"]["seed"]
        self.denoiser = load_denoiser(inputs["denoiser"], self.settings, context)

    def __call__(self, class_id, context):
        """Return the file of scores of one class."""
        settings = self.settings
        rows = read_class(self.inputs["images"][class_id], "train", context.source_roots)
        count = settings["images_per_class"]
        names = preselect(rows.image_ids, None if count == "all" else count, self.seed, class_id)
        latents_file = self.inputs["latents"][class_id]
        groups = stacks_of(latents_file, names, settings["latents"], class_id)
        if settings["patch"]:
            check_patch(groups, self.denoiser.factor, settings["patch"])
        stacks = [stack for _, stack in groups]
        maps = score_maps(stacks, self.denoiser, class_id, settings, self.seed, context)
        for score_map in maps:
            self.denoiser.check_finite(score_map, "errors of the noise predictor")
        shape = store.read_spec(latents_file.parent)["settings"]["shape"]
        scored = {}
        for (group, _), maps_of_group in zip(groups, maps, strict=True):
            sizes = (decode(rows.read(name), name).shape[1:] for name in group)
            regions = [(region_of(shape, *size), centre_box(*size)) for size in sizes]
            boxes, scores = best_boxes(
                maps_of_group, self.denoiser.factor, settings["patch"], regions
            )
            scored |= zip(group, zip(boxes, scores, maps_of_group, strict=True), strict=True)
        return {"scores.parquet": _table(names, [scored[name] for name in names])}


def stacks_of(path, names, posterior, class_id):
    """Return the latents of selected images of a class, grouped by size.

    `posterior`: ``mode`` or ``sample``, see `stillhouse.diffusion.latents`.

    Returns
    -------
    list of (image ids, (n, c, h, w) float32 tensor)
        Smallest size first; within a size, in the order of `names`.
    """
    stored = latents.read(path)
    place = {name: i for i, name in enumerate(stored.names)}
    groups = {}
    for name in names:
        size = tuple(int(extent) for extent in stored.sizes[place[name]])
        groups.setdefault(size, []).append(name)
    return [
        (group, torch.stack([stored.latent(place[name], posterior, class_id) for name in group]))
        for _, group in sorted(groups.items())
    ]


def check_patch(groups, factor, patch):
    """Raise a `StillhouseError` if a patch is larger than an image at the denoiser's size."""
    for names, stack in groups:
        height, width = (extent * factor for extent in stack.shape[2:])
        if patch > min(height, width):
            raise StillhouseError(
                f"image {names[0]!r}: is resized to {width} x {height} px for the denoiser, "
                f"smaller than a patch of {patch} px; patch must be at most {min(height, width)}, "
                "or whole"
            )


def noised(stacks, denoiser, draw, n_draws, batch_size, label, done=0):
    """Yield the inputs of forward passes for all images with all draws of noise.

    Parameters
    ----------
    stacks : list of (n, c, h, w) float32 tensors
        One per latent size.
    draw : callable
        From (c, h, w) to (timesteps (n_draws,) int64, noise (n_draws, c, h, w) float32). The same
        for all images of a size, so that their scores are comparable.
    batch_size : int
        Latents per pass.
    label : str
        For the progress.
    done : int
        Passes to skip at the beginning.

    Yields
    ------
    (number of the stack, rows, noisy latents, noise, timesteps)
        Of k combinations: all images with the first draw, then with the second and so on, divided
        into passes of `batch_size`. `rows` is (k,) int64, the images; timesteps are on the CPU,
        the rest on the denoiser's device.
    """
    counts = [len(stack) * n_draws for stack in stacks]
    steps = [(i, first) for i, count in enumerate(counts) for first in range(0, count, batch_size)]
    steps = steps[done:]
    current = None
    for number, first in track(steps, len(steps), label):
        if number != current:
            current, clean = number, stacks[number].to(denoiser.device)
            timesteps, noise = draw(tuple(clean.shape[1:]))
            noise = noise.to(denoiser.device)
        items = torch.arange(first, min(first + batch_size, counts[number]))
        levels, draws = timesteps[items // len(clean)], (items // len(clean)).to(denoiser.device)
        rows, added = (items % len(clean)).to(denoiser.device), noise[draws]
        yield number, rows, denoiser.schedule.add_noise(clean[rows], added, levels), added, levels


def pairs(size, n_draws, span, n_levels, seed, class_id):
    """Return the pairs (t, ε) of a class for latents of one size, (c, h, w).

    Returns
    -------
    timesteps : (n_draws,) int64 tensor
        Uniform in [span[0] · T, span[1] · T), T = `n_levels` (paper: 0.1 and 0.7, Table 7); the
        same for all sizes.
    noise : (n_draws, c, h, w) float32 tensor
    """
    low, high = (round(share * n_levels) for share in span)
    times, noise = [], np.empty((n_draws, *size), np.float32)
    text = "x".join(str(extent) for extent in size)
    for draw in range(n_draws):
        uniform = generator(seed, "class scores", class_id, draw).random()
        times.append(low + int(uniform * (high - low)))
        rng = generator(seed, "class scores", class_id, f"{draw} {text}")
        rng.standard_normal(out=noise[draw], dtype=np.float32)
    return torch.tensor(times), torch.from_numpy(noise)


def score_maps(stacks, denoiser, class_id, settings, seed, context):
    """Return the reduction of the denoiser's error by the class, at every position of the latents.

    Parameters
    ----------
    stacks : list of (n, c, h, w) float32 tensors
    settings : dict
        ``draws``, ``timesteps``.
    context : stillhouse.artifacts.context.Context
        ``batch_size``: latents per pass, each with and without the class. With a checkpoint in its
        ``work``, a job of the same batch size resumes after a pass.

    Returns
    -------
    list of (n, h, w) float64 tensors on the CPU
        Mean over draws and channels of (ε̂(null) - ε)² - (ε̂(class) - ε)², from running sums, so
        that memory does not grow with the draws.
    """
    totals = [torch.zeros(len(s), *s.shape[2:], dtype=torch.float64) for s in stacks]
    totals = [total.to(denoiser.device) for total in totals]
    conditions = denoiser.condition(class_id), denoiser.null
    checkpoint, done, batch_size = Checkpoint(context), 0, context.batch_size
    stored = checkpoint.resume(class_id, "pass", batch_size=batch_size)
    if stored is not None:
        totals = [stored[0][str(i)].to(denoiser.device) for i in range(len(stacks))]
        done = stored[1]["done"]

    def draw(size):
        n_levels = len(denoiser.schedule.alphas)
        return pairs(size, settings["draws"], settings["timesteps"], n_levels, seed, class_id)

    label = f"{class_id}: passes of scores"
    passes = noised(stacks, denoiser, draw, settings["draws"], batch_size, label, done)
    for n_passes, (number, rows, noisy, noise, levels) in enumerate(passes, done + 1):
        condition = torch.cat([c.expand(len(noisy), *c.shape[1:]) for c in conditions])
        predicted = denoiser.predict(noisy.repeat(2, 1, 1, 1), levels.repeat(2), condition)
        errors = (predicted.unflatten(0, (2, -1)) - noise).square_().mean(2)
        totals[number].index_add_(0, rows, (errors[1] - errors[0]).double())
        if checkpoint.due():
            tensors = {str(i): total for i, total in enumerate(totals)}
            checkpoint.save(tensors, {"done": n_passes, "batch_size": batch_size})
    return [(total / settings["draws"]).cpu() for total in totals]


def best_boxes(maps, factor, patch, regions):
    """Return the box with the highest score of each image of one latent size, and its score.

    Parameters
    ----------
    maps : (n, h, w) float64 tensor
        See `score_maps`.
    factor : int
        Pixels per position of the latent.
    patch : int
        Side of a patch [px of the denoiser's input]; 0 for the complete image.
    regions : list of (box, box)
        Region of each source image that its latent covers, and its largest centred square [px].

    Returns
    -------
    boxes : list of (4,) int64 arrays [px of the source images]
    scores : (n,) float32 array
    """
    if not patch:
        scores = maps.mean((1, 2)).numpy().astype(np.float32)
        return [square for _, square in regions], scores
    tops, lefts, scores = best_patches(maps, factor, patch)
    size = np.array(maps.shape[1:]) * factor
    boxes = [
        to_source(np.array([top, left, patch, patch]), size, region)
        for top, left, (region, _) in zip(tops, lefts, regions, strict=True)
    ]
    return boxes, scores


def best_patches(maps, factor, patch):
    """Return (tops, lefts, scores) of the best patch × patch pixels of each map, (n,) each.

    Maps are enlarged bilinearly to pixels and averaged over each patch at a stride of one pixel,
    without padding (paper, section 4.2). Both are linear and separable, hence two small matrices.
    Ties in float32 go to the first position, row by row.
    """
    down, across = (_pooling(extent, factor, patch) for extent in maps.shape[1:])
    pooled = (down @ maps @ across.T).float()
    columns = pooled.shape[2]
    flat = pooled.flatten(1).numpy()
    best = flat.argmax(1)
    return best // columns, best % columns, flat[np.arange(len(flat)), best]


def _pooling(places, factor, patch):
    """Return the (positions, places) matrix that enlarges one axis and pools it."""
    eye = torch.eye(places, dtype=torch.float64)[:, None]
    return avg_pool1d(interpolate(eye, places * factor, mode="linear"), patch, 1)[:, 0].T


def to_source(box, size, region):
    """Convert a box in pixels of a resized region to pixels of the source image, (4,) int64.

    `size` is that of the region after resizing, (2,); `region` its box in the source image. The
    result is rounded and inside the region.
    """
    scale = region[2:] / size
    extent = np.clip(np.rint(box[2:] * scale), 1, region[2:])
    corner = np.minimum(np.rint(box[:2] * scale), region[2:] - extent)
    return np.concatenate([region[:2] + corner, extent]).astype(np.int64)


def _table(names, scored):
    scores = np.array([score for _, score, _ in scored], np.float32)
    with_map = set(np.argsort(-scores, kind="stable")[:N_MAPS].tolist())
    columns = dict(zip(BOX_COLUMNS, np.stack([box for box, _, _ in scored]).T, strict=True))
    maps = [score_map.numpy().astype(np.float16) for _, _, score_map in scored]
    columns["map_height"] = [len(m) if i in with_map else None for i, m in enumerate(maps)]
    columns["map"] = [m.ravel() if i in with_map else None for i, m in enumerate(maps)]
    return pa.table({"image_id": names, "score": scores, **columns}, schema=SCHEMA)
