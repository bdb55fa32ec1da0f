"""Features of patches to cluster by: a denoiser's activations (DIFT), or CLIP's embedding.

DIFT: Tang et al., "Emergent Correspondence from Image Diffusion" (NeurIPS 2023). As DDPS (Zhong et
al., arXiv 2412.09959, section 3.3 and Table 5) uses both; how a patch's vector is made from the
activations follows Siglidis et al. (ECCV 2024; code ysig/diff-mining at 0e4c863, dift.py).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import normalize

from stillhouse.artifacts import store
from stillhouse.artifacts.progress import track
from stillhouse.data.boxes import region_of
from stillhouse.data.class_images import read_class
from stillhouse.data.codecs import decode
from stillhouse.data.crops import boxes_of, cut_many
from stillhouse.diffusion.denoisers import complete, load_denoiser
from stillhouse.diffusion.pretrained import fetch, folder_digest, read_config
from stillhouse.errors import StillhouseError
from stillhouse.methods.common.selection import WHOLE
from stillhouse.methods.ddps import class_scores
from stillhouse.rng import generator
from stillhouse.training.loop import freeze

CLIP_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def describe(inputs, spec, context):
    """Return ``make`` of stage `features` for patches that a denoiser has scored.

    ``features: dift`` reads ``latents`` and ``denoiser`` among the inputs, ``clip`` neither.
    """
    return (_describe_clip if spec["settings"]["features"] == "clip" else _describe_dift)(
        inputs, spec, context
    )


def _describe_dift(inputs, spec, context):
    settings, seed = spec["settings"], spec["keys"]["seed"]
    path = inputs["denoiser"]
    denoiser = load_denoiser(path, settings, context)
    image_files, score_files, latent_files = (
        inputs[name] for name in ("images", "scores", "latents")
    )

    def make(class_id, context):
        rows = read_class(image_files[class_id], "train", context.source_folders)
        boxes = _boxes(score_files[class_id])
        path = latent_files[class_id]
        shape = store.read_spec(path.parent)["settings"]["shape"]
        groups = class_scores.stacks_of(path, list(boxes), settings["latents"], class_id)
        shares = [
            np.stack([_share(boxes[n], shape, decode(rows.read(n), n).shape[1:]) for n in names])
            for names, _ in groups
        ]
        stacks = [stack for _, stack in groups]
        parts = dift_features(
            stacks, shares, denoiser, class_id, settings, seed, context.batch_size
        )
        found = {
            name: vector
            for (names, _), part in zip(groups, parts, strict=True)
            for name, vector in zip(names, part, strict=True)
        }
        return {"features.parquet": _table(list(boxes), np.stack([found[n] for n in boxes]))}

    return make


def _boxes(path):
    """Return the box of each scored image by its id, (1, 4) int64."""
    rows = store.read_table(path, schema=class_scores.SCHEMA).to_pylist()
    return {row["image_id"]: box for row, box in zip(rows, boxes_of(rows), strict=True)}


def _share(box, shape, size):
    """Return where a box lies in what the latent shows: start and end of rows, of columns, 0-1."""
    region = region_of(shape, *size)
    top, left, height, width = box[0]
    ends = np.array([[top, top + height], [left, left + width]]) - region[:2, None]
    return np.clip(ends / region[2:, None], 0, 1)


def dift_features(stacks, shares, denoiser, class_id, settings, seed, batch_size):
    """Return the mean activation of the denoiser inside a box of each latent, with length 1.

    The whole image gets noise and goes through the network with its class; the activations are
    then cut to the box.
    # paper: "latent of input image/patch"; here: the image's, as in diff-mining, which the patch's
    # surroundings reach through the network.

    Parameters
    ----------
    stacks : list of (n, c, h, w) float32 tensors
        One a latent size.
    shares : list of (n, 2, 2) float arrays
        Of each box start and end of its rows and of its columns, as shares of the image.
    settings : dict
        ``timestep`` (paper: "1.60", read as 161 of 1000, which diff-mining's scripts use),
        ``layer``, ``ensemble`` (draws of noise, averaged; shared by all images of a size).
    batch_size : int
        Latents a pass.

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
    parts = class_scores.noised(
        stacks, denoiser, draw, n_draws, batch_size, f"{class_id}: features"
    )
    for number, rows, noisy, _, levels in parts:
        given = condition.expand(len(noisy), *condition.shape[1:])
        found = denoiser.features(noisy, levels, given, settings["layer"])
        weights = [box_weights(shares[number][i], *found.shape[2:]) for i in rows.tolist()]
        inside = torch.einsum("kdhw,khw->kd", found, torch.stack(weights).to(found)).double()
        if totals[number] is None:
            totals[number] = inside.new_zeros(len(stacks[number]), inside.shape[1])
        totals[number].index_add_(0, rows, inside)
    return [normalize(total, dim=1).float().cpu().numpy() for total in totals]


def box_weights(share, height, width):
    """Return the weights whose sum over a grid is the mean inside a box, (height, width) float32.

    Parameters
    ----------
    share : (2, 2) float array
        Start and end of the box's rows and of its columns, as shares of the image; rounded to
        whole places, of which at least one remains.
    """
    inside = []
    for (start, end), extent in zip(share, (height, width), strict=True):
        first = min(round(start * extent), extent - 1)
        last = max(round(end * extent), first + 1)
        line = torch.zeros(extent)
        line[first:last] = 1 / (last - first)
        inside.append(line)
    return torch.outer(*inside)


def _describe_clip(inputs, spec, context):
    device = context.torch_device()
    net, side, mean, std = load_clip(spec["settings"]["clip"], context.weight_folders, device)
    image_files, score_files = inputs["images"], inputs["scores"]

    def make(class_id, context):
        rows = read_class(image_files[class_id], "train", context.source_folders)
        boxes = list(_boxes(score_files[class_id]).items())
        parts, starts = [], range(0, len(boxes), context.batch_size)
        for first in track(starts, len(starts), f"{class_id}: batches of features"):
            some = boxes[first : first + context.batch_size]
            pixels = [decode(rows.read(name), name) for name, _ in some]
            crops = cut_many(pixels, [box for _, box in some], side, device)
            with torch.no_grad():
                found = net(pixel_values=(crops / 255 - mean) / std).image_embeds
            parts.append(normalize(found.double(), dim=1).float().cpu().numpy())
        return {"features.parquet": _table([name for name, _ in boxes], np.concatenate(parts))}

    return make


def _table(names, matrix):
    # Features dispatches to this module.
    from stillhouse.methods.common.features import features_schema

    flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
    columns = {
        "image_id": names,
        "crop": [WHOLE] * len(names),
        "features": pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1]),
    }
    return pa.table(columns, schema=features_schema(matrix.shape[1]))


def load_clip(given, folders, device):
    """Return CLIP's image tower with its projection, and how it wants its images.

    Parameters
    ----------
    given : dict
        ``{"sha256": ...}``: `folder_digest` of `clip_files` of a folder of the user's, which lies
        at ``folders[sha256]``. ``{"hub": name, "revision": commit}``: of the Hugging Face hub.
    folders : dict of str to str
    device : torch.device

    Returns
    -------
    net : torch.nn.Module
        In evaluation mode, float32.
    side : int
        Of its input [px].
    mean, std : (3, 1, 1) tensors
        Of its training images, in [0, 1].

    Raises
    ------
    StillhouseError
        If the files are missing, have changed, or are not CLIP's.
    """
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    folder = _clip_folder(given, folders)
    config = read_config(folder / "config.json")
    if config.get("model_type") not in ("clip", "clip_vision_model"):
        raise StillhouseError(
            f"{folder}/config.json: model_type is {config.get('model_type')!r}; should be clip or "
            "clip_vision_model"
        )
    net = complete(CLIPVisionModelWithProjection, folder).float()
    wanted = read_config(folder / "preprocessor_config.json")
    mean, std = (
        torch.tensor(wanted[name], device=device)[:, None, None]
        for name in ("image_mean", "image_std")
    )
    net = freeze(net.to(device))
    return net, net.config.image_size, mean, std


def _clip_folder(given, folders):
    if "hub" in given:
        folder = fetch(given["hub"], given["revision"], CLIP_FILES)
        clip_files(folder)
        return folder
    folder = Path(folders[given["sha256"]])
    found = folder_digest(clip_files(folder))
    if found != given["sha256"]:
        raise StillhouseError(
            f"{folder}: its files have the digest {found}; should have {given['sha256']}, which "
            "the config names"
        )
    return folder


def clip_files(folder):
    """Return the files that CLIP is loaded from, {path within `folder`: SHA-256}."""
    for name in CLIP_FILES:
        if not (Path(folder) / name).is_file():
            raise StillhouseError(
                f"{Path(folder) / name}: is not there; should be a CLIP model as transformers "
                "saves it, in safetensors, with its image processor"
            )
    return {name: store.checksum(Path(folder) / name) for name in CLIP_FILES}
