"""Features of patches for clustering: activations of a denoiser (DIFT), or CLIP embeddings.

DIFT: Tang et al., "Emergent Correspondence from Image Diffusion" (NeurIPS 2023). Both as in DDPS
(Zhong et al., arXiv 2412.09959, section 3.3 and Table 5). The pooling of activations over a patch
follows Siglidis et al. (ECCV 2024; code ysig/diff-mining at 0e4c863, dift.py).
"""

import numpy as np
import torch
from torch.nn.functional import normalize

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.artifacts.rng import generator
from stillhouse.data.boxes import region_of
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.crops import boxes_of, cut_many
from stillhouse.data.transforms import to_unit
from stillhouse.diffusion.denoisers import load_denoiser
from stillhouse.methods.common.features import WHOLE, features_table
from stillhouse.methods.ddps import class_scores
from stillhouse.methods.ddps.clip import load_clip


def patch_features(inputs, spec, context):
    """Stage: compute features of the patches of each class that a denoiser has scored.

    ``features: dift`` needs ``denoiser`` among the inputs, and ``latents`` for ``dift_input:
    image``; ``clip`` needs neither.
    """
    kinds = {"dift": DiftFeatures, "clip": ClipFeatures}
    return kinds[spec["settings"]["features"]](inputs, spec, context)


class DiftFeatures:
    """DIFT features of a denoiser, computed class by class."""

    def __init__(self, inputs, spec, context):
        self.inputs, self.settings, self.seed = inputs, spec["settings"], spec["keys"]["seed"]
        self.denoiser = load_denoiser(inputs["denoiser"], self.settings, context)

    def __call__(self, class_id, context):
        """Return the file of features of one class."""
        rows = read_class(self.inputs["images"][class_id], "train", context.source_roots)
        boxes = _boxes(self.inputs["scores"][class_id])
        of_patches = self.settings.get("dift_input") == "patch"
        inputs_of = self._patches if of_patches else self._images
        groups, shares = inputs_of(boxes, rows, class_id, context.batch_size)
        stacks = [stack for _, stack in groups]
        vectors = dift_features(
            stacks, shares, self.denoiser, class_id, self.settings, self.seed, context.batch_size
        )
        for matrix in vectors:
            self.denoiser.check_finite(
                torch.from_numpy(matrix), "activations of the noise predictor"
            )
        by_name = {}
        for (names, _), vectors_of_group in zip(groups, vectors, strict=True):
            by_name |= zip(names, vectors_of_group, strict=True)
        return {"features.parquet": _table(list(boxes), np.stack([by_name[n] for n in boxes]))}

    def _images(self, boxes, rows, class_id, batch_size):
        """Return the stored latents of complete images by size, and the shares of their boxes."""
        path = self.inputs["latents"][class_id]
        shape = store.read_spec(path.parent)["settings"]["shape"]
        groups = class_scores.stacks_of(path, list(boxes), self.settings["latents"], class_id)
        shares = [
            np.stack([_share(boxes[n], shape, decode(rows.read(n), n).shape[1:]) for n in names])
            for names, _ in groups
        ]
        return groups, shares

    def _patches(self, boxes, rows, class_id, batch_size):
        """Return the latents of patches, which are cut from their images and encoded.

        A sample of the posterior is keyed by class and image, as that of the complete image.
        """
        denoiser, names, stack = self.denoiser, list(boxes), []
        side = max(round(self.settings["patch"] / denoiser.factor), 1) * denoiser.factor
        starts = range(0, len(names), batch_size)
        for first in track(starts, len(starts), f"{class_id}: batches of patches encoded"):
            batch = names[first : first + batch_size]
            pixels = [decode(rows.read(name), name) for name in batch]
            crops = cut_many(pixels, [boxes[name] for name in batch], side, denoiser.device)
            means, stds = (values.cpu() for values in denoiser.encode(to_unit(crops)))
            for name, mean, std in zip(batch, means, stds, strict=True):
                if self.settings["latents"] == "sample":
                    rng = generator(0, "posterior of patches", class_id, name)
                    draw = rng.standard_normal(mean.shape, np.float32)
                    mean = mean + std * torch.from_numpy(draw)
                stack.append(mean)
        return [(names, torch.stack(stack))], [np.tile([0.0, 1.0], (len(names), 2, 1))]


class ClipFeatures:
    """Embeddings of CLIP's image tower, computed class by class."""

    def __init__(self, inputs, spec, context):
        self.inputs, self.device = inputs, context.torch_device()
        clip = spec["settings"]["clip"]
        self.net, self.side, self.mean, self.std = load_clip(
            clip, context.weight_folders, self.device
        )

    def __call__(self, class_id, context):
        """Return the file of features of one class."""
        rows = read_class(self.inputs["images"][class_id], "train", context.source_roots)
        boxes = list(_boxes(self.inputs["scores"][class_id]).items())
        parts, starts = [], range(0, len(boxes), context.batch_size)
        for first in track(starts, len(starts), f"{class_id}: batches of features"):
            batch = boxes[first : first + context.batch_size]
            pixels = [decode(rows.read(name), name) for name, _ in batch]
            crops = cut_many(pixels, [box for _, box in batch], self.side, self.device)
            with torch.no_grad():
                vectors = self.net(pixel_values=(crops / 255 - self.mean) / self.std).image_embeds
            parts.append(normalize(vectors.double(), dim=1).float().cpu().numpy())
        return {"features.parquet": _table([name for name, _ in boxes], np.concatenate(parts))}


def _table(names, matrix):
    return features_table(names, [WHOLE] * len(names), matrix)


def _boxes(path):
    """Return the box of each scored image by its id, (1, 4) int64."""
    rows = store.read_table(path, schema=class_scores.SCHEMA).to_pylist()
    return {row["image_id"]: box for row, box in zip(rows, boxes_of(rows), strict=True)}


def _share(box, shape, size):
    """Return start and end of a box's rows and columns, as shares of the latent's region."""
    region = region_of(shape, *size)
    top, left, height, width = box[0]
    ends = np.array([[top, top + height], [left, left + width]]) - region[:2, None]
    return np.clip(ends / region[2:, None], 0, 1)


def dift_features(stacks, shares, denoiser, class_id, settings, seed, batch_size):
    """Return the mean activation of the denoiser inside a box of each latent, normalised.

    The network is evaluated on the complete noisy latent with its class; the activations are then
    averaged over the box: of a patch in its image (``dift_input: image``, diff-mining), or all of
    the latent of a patch (``patch``; paper, Algorithm 1, line 14, and supplement 3).

    Parameters
    ----------
    stacks : list of (n, c, h, w) float32 tensors
        One per latent size.
    shares : list of (n, 2, 2) float arrays
        Start and end of the rows and of the columns of each box, as shares of the image.
    settings : dict
        ``timestep`` (paper: "1.60", read as 161 of 1000, which diff-mining's scripts use),
        ``layer``, ``ensemble`` (draws of noise, averaged; shared by all images of a size).
    batch_size : int
        Latents per pass.

    Returns
    -------
    list of (n, d) float32 arrays
    """
    timestep, n_draws = settings["timestep"], settings["ensemble"]
    condition = denoiser.condition(class_id)

    def draw(size):
        text = "x".join(str(extent) for extent in size)
        noise = [
            generator(seed, "dift", class_id, f"{i} {text}").standard_normal(size, np.float32)
            for i in range(n_draws)
        ]
        return torch.full((n_draws,), timestep), torch.from_numpy(np.stack(noise))

    totals = [None] * len(stacks)
    passes = class_scores.noised(
        stacks, denoiser, draw, n_draws, batch_size, f"{class_id}: features"
    )
    for number, rows, noisy, _, levels in passes:
        conditions = condition.expand(len(noisy), *condition.shape[1:])
        maps = denoiser.features(noisy, levels, conditions, settings["layer"])
        weights = [box_weights(shares[number][i], *maps.shape[2:]) for i in rows.tolist()]
        inside = torch.einsum("kdhw,khw->kd", maps, torch.stack(weights).to(maps)).double()
        if totals[number] is None:
            totals[number] = inside.new_zeros(len(stacks[number]), inside.shape[1])
        totals[number].index_add_(0, rows, inside)
    return [normalize(total, dim=1).float().cpu().numpy() for total in totals]


def box_weights(share, height, width):
    """Return weights whose weighted sum over a grid is the mean in a box, (height, width) float32.

    Parameters
    ----------
    share : (2, 2) float array
        Start and end of the box's rows and of its columns, as shares of the image; rounded to
        positions of the grid, at least one.
    """
    inside = []
    for (start, end), extent in zip(share, (height, width), strict=True):
        first = min(round(start * extent), extent - 1)
        last = max(round(end * extent), first + 1)
        line = torch.zeros(extent)
        line[first:last] = 1 / (last - first)
        inside.append(line)
    return torch.outer(*inside)
