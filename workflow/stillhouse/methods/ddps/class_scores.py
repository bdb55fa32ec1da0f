"""Typicality: how much knowing its class helps a denoiser with an image, place by place.

Zhong et al., "Efficient Dataset Distillation via Diffusion-Driven Patch Selection" (DDPS, arXiv
2412.09959), section 3.2 and Algorithm 1. No official code is known; what the paper leaves open
follows Siglidis et al., "Diffusion Models as Data Mining Tools" (ECCV 2024), whose pipeline it is
(code ysig/diff-mining at 0e4c863).
"""

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import avg_pool1d, interpolate

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.data.boxes import BOX_COLUMNS, centre_box, region_of
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.diffusion import latents
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.errors import StillhouseError
from stillhouse.methods.rded.images import preselect
from stillhouse.rng import generator
from stillhouse.training.loop import SideFile

# Images of a class whose score maps are kept, for pictures.
N_MAPS = 10
# A patch of an image and its score.
PATCH = [
    ("image_id", pa.string()),
    ("top", pa.int32()),
    ("left", pa.int32()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("score", pa.float32()),
]
SCHEMA = pa.schema([*PATCH, ("map_height", pa.int32()), ("map", pa.list_(pa.float16()))])


def class_scores(inputs, spec, context):
    """Stage: score T' images of each class, and find the most typical patch of each.

    A score is the mean over draws of L(null) - L(class), so higher is more typical.
    # paper: R = L(class) - L(null), eq. 6, and the largest R wins; here: the other sign, because
    # p(class) = 1 / (1 + exp R), eq. 5, falls with R, and diff-mining ranks by -R.
    """
    settings, seed = spec["settings"], spec["keys"]["seed"]
    most = settings["images_per_class"]
    path = inputs["denoiser"]
    denoiser = load_denoiser(path, settings, context)
    image_files = inputs["images"]
    latent_files = inputs["latents"]

    def make(class_id, context):
        rows = read_class(image_files[class_id], "train", context.source_roots)
        names = preselect(rows.image_ids, None if most == "all" else most, seed, class_id)
        groups = stacks_of(latent_files[class_id], names, settings["latents"], class_id)
        if settings["patch"]:
            check_patch(groups, denoiser.factor, settings["patch"])
        stacks = [stack for _, stack in groups]
        maps = score_maps(stacks, denoiser, class_id, settings, seed, context)
        shape = store.read_spec(latent_files[class_id].parent)["settings"]["shape"]
        found = {}
        for (some, _), part in zip(groups, maps, strict=True):
            pixels = (decode(rows.read(name), name).shape[1:] for name in some)
            regions = [(region_of(shape, *size), centre_box(*size)) for size in pixels]
            boxes, scores = best_boxes(part, denoiser.factor, settings["patch"], regions)
            found |= dict(zip(some, zip(boxes, scores, part, strict=True), strict=True))
        return {"scores.parquet": _table(names, [found[name] for name in names])}

    return make


def stacks_of(path, names, how, class_id):
    """Return the latents of some images of a class, those of one size together.

    `how`: ``mode`` or ``sample`` of the posterior, see `stillhouse.diffusion.latents`.

    Returns
    -------
    list of (image ids, (n, c, h, w) float32 tensor)
        Smallest size first; within one, in the order of `names`.
    """
    found = latents.read(path)
    place = {name: i for i, name in enumerate(found.names)}
    groups = {}
    for name in names:
        size = tuple(int(extent) for extent in found.sizes[place[name]])
        groups.setdefault(size, []).append(name)
    return [
        (some, torch.stack([found.one(place[name], how, class_id) for name in some]))
        for _, some in sorted(groups.items())
    ]


def check_patch(groups, factor, patch):
    """Refuse patches that are larger than an image as the denoiser sees it."""
    for names, stack in groups:
        height, width = (extent * factor for extent in stack.shape[2:])
        if patch > min(height, width):
            raise StillhouseError(
                f"image {names[0]!r}: is {width} x {height} px as the denoiser sees it, smaller "
                f"than a patch of {patch} px; patch should be at most {min(height, width)}, or 0 "
                "for whole images"
            )


def noised(stacks, denoiser, draw, n_draws, batch_size, what, done=0):
    """Yield all images with all draws of noise, one forward pass at a time.

    Parameters
    ----------
    stacks : list of (n, c, h, w) float32 tensors
        One a latent size.
    draw : callable
        From (c, h, w) to (timesteps (n_draws,) int64, noise (n_draws, c, h, w) float32): the same
        for all images of a size, so that they can be compared.
    batch_size : int
        Latents a pass.
    what : str
        Shown with the progress.
    done : int
        Passes to leave out at the beginning.

    Yields
    ------
    (number of the stack, rows, noisy latents, noise, timesteps)
        Of k combinations: all images with the first draw, then with the second and so on, cut into
        passes of `batch_size`. `rows` is (k,) int64, the images; timesteps are on the CPU,
        the rest on the denoiser's device.
    """
    counts = [len(stack) * n_draws for stack in stacks]
    steps = [(i, first) for i, count in enumerate(counts) for first in range(0, count, batch_size)]
    steps = steps[done:]
    current = None
    for number, first in track(steps, len(steps), what):
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
    """Return how much the class lowers the denoiser's error at every place of every latent.

    Parameters
    ----------
    stacks : list of (n, c, h, w) float32 tensors
    settings : dict
        ``draws``, ``timesteps``.
    context : stillhouse.artifacts.jobs.Context
        Its ``batch_size``: latents a pass; the network sees each twice, with the class and without.
        A side file in its ``work`` lets a later job of the same batches go on after a pass.

    Returns
    -------
    list of (n, h, w) float64 tensors on the CPU
        Mean over draws and channels of (ε̂(null) - ε)² - (ε̂(class) - ε)²; summed up on the way,
        so that memory does not grow with the draws.
    """
    totals = [torch.zeros(len(s), *s.shape[2:], dtype=torch.float64) for s in stacks]
    totals = [total.to(denoiser.device) for total in totals]
    both, n_draws = (denoiser.condition(class_id), denoiser.null), settings["draws"]
    side, done, batch_size = SideFile(context), 0, context.batch_size
    stored = side.load()
    if stored is not None and stored[1]["batch_size"] == batch_size:
        totals = [stored[0][str(i)].to(denoiser.device) for i in range(len(stacks))]
        done = stored[1]["done"]
        print(f"{class_id}: continues after pass {done}", flush=True)

    def draw(size):
        n_levels = len(denoiser.schedule.alphas)
        return pairs(size, n_draws, settings["timesteps"], n_levels, seed, class_id)

    what = f"{class_id}: passes of scores"
    parts = noised(stacks, denoiser, draw, n_draws, batch_size, what, done)
    for n_passes, (number, rows, noisy, noise, levels) in enumerate(parts, done + 1):
        condition = torch.cat([one.expand(len(noisy), *one.shape[1:]) for one in both])
        found = denoiser.predict(noisy.repeat(2, 1, 1, 1), levels.repeat(2), condition)
        errors = (found.unflatten(0, (2, -1)) - noise).square_().mean(2)
        totals[number].index_add_(0, rows, (errors[1] - errors[0]).double())
        if side.due():
            kept = {str(i): total for i, total in enumerate(totals)}
            side.save(kept, {"done": n_passes, "batch_size": batch_size})
    return [(total / n_draws).cpu() for total in totals]


def best_boxes(maps, factor, patch, regions):
    """Return the most typical box of each image of one latent size, and its score.

    Parameters
    ----------
    maps : (n, h, w) float64 tensor
        As `score_maps` gives them.
    factor : int
        Pixels a place of the latent.
    patch : int
        Side of a patch [px of the image as the denoiser sees it]; 0 for the whole image.
    regions : list of (box, box)
        What of each source image its latent shows, and its largest centred square [px].

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

    Bilinear to the pixels, mean over every position at a stride of one pixel, no padding (paper,
    section 4.2). Both are linear and separable: two small matrices do it. The first of a tie in
    float32 wins, row by row.
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

    `size` is the region's after resizing, (2,); `region` its box in the source image. The result is
    rounded and lies inside the region.
    """
    scale = region[2:] / size
    extent = np.clip(np.rint(box[2:] * scale), 1, region[2:])
    corner = np.minimum(np.rint(box[:2] * scale), region[2:] - extent)
    return np.concatenate([region[:2] + corner, extent]).astype(np.int64)


def _table(names, found):
    scores = np.array([score for _, score, _ in found], np.float32)
    pictured = set(np.argsort(-scores, kind="stable")[:N_MAPS].tolist())
    boxes = np.stack([box for box, _, _ in found])
    maps = [score_map.numpy().astype(np.float16) for _, _, score_map in found]
    return pa.table(
        {
            "image_id": names,
            **{name: boxes[:, i] for i, name in enumerate(BOX_COLUMNS)},
            "score": scores,
            "map_height": [len(m) if i in pictured else None for i, m in enumerate(maps)],
            "map": [m.ravel() if i in pictured else None for i, m in enumerate(maps)],
        },
        schema=SCHEMA,
    )
