"""Stage `samples`: the group of noise latents that stands for a class (D3HR, section 4.4)."""

import torch

from stillhouse.artifacts import store
from stillhouse.errors import StillhouseError
from stillhouse.methods.d3hr.group_sampling import search
from stillhouse.training.loop import SideFile


def samples(inputs, spec, context):
    """Stage: choose the group of each class among random groups of its Gaussian.

    The file has ``latents`` (n, channels, height, width) float32; ``losses`` (4,) float32, total,
    mean, std and skewness term of the winner, terms before weighting; ``first`` (4,), the same of
    candidate 0, a random group; ``winner`` (1,) int64, the candidate's number.
    """
    settings, ipc, seed = spec["settings"], spec["keys"]["ipc"], spec["keys"]["seed"]
    device = _device(settings["draw_on"], context)
    files = inputs["inversion"]

    def make(class_id, context):
        mean, variance, shape = read_statistics(files[class_id], settings["snapshot"], class_id)
        side = SideFile(context)
        found = search(mean, variance, ipc, settings, seed, class_id, device, side)
        latents, winner, losses, first = found
        tensors = {
            "latents": latents.view(ipc, *shape),
            "losses": losses,
            "first": first,
            "winner": torch.tensor([winner]),
        }
        return {"samples.safetensors": tensors}

    return make


def _device(where, context):
    """Return the device that the setting `draw_on` names: it shapes the result."""
    if where == "cpu":
        return torch.device("cpu")
    device = context.torch_device()
    if device.type != "cuda":
        raise StillhouseError(
            "draw_on: is 'cuda', but this job computes on the CPU; should be cpu, or have a GPU"
        )
    return device


def read_statistics(path, snapshot, class_id):
    """Return mean and variance, (d,) float32, and the shape of a latent, of one snapshot.

    Parameters
    ----------
    path : Path
        An ``inversion.safetensors``.
    snapshot : int
        After how many levels of the grid.
    class_id : str
        Whose it is.

    Raises
    ------
    StillhouseError
        If the snapshot is not among those kept, or the class has no variance.
    """
    found = store.read_tensors(path)
    kept = found["snapshots"].tolist()
    if snapshot not in kept:
        raise StillhouseError(
            f"snapshot: is {snapshot}, but {path} has {', '.join(map(str, kept))}; should be one "
            "of them"
        )
    row = kept.index(snapshot)
    mean, variance = found["mean"][row], found["variance"][row]
    if not (mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all()):
        raise StillhouseError(
            f"class {class_id}: {path} has no finite mean and variance of {int(found['count'])} "
            "inverted latents; there should be at least two"
        )
    return mean, variance, found["shape"].tolist()
