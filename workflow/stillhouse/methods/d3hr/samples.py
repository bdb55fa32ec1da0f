"""Samples: the group of noise latents that represents a class (D3HR, section 4.4)."""

import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import Checkpoint
from stillhouse.errors import StillhouseError
from stillhouse.methods.d3hr.group_sampling import search


def samples(inputs, spec, context):
    """Stage: select one of many random groups from the Gaussian of each class.

    The file has ``latents`` (n, channels, height, width) float32; ``losses`` (4,) float32, total,
    mean, std and skewness term of the selected group, terms before weighting; ``first`` (4,), those
    of candidate 0, a random group; ``winner`` (1,) int64, the number of the selected candidate.
    """
    settings, keys = spec["settings"], spec["keys"]
    device = _device(settings["draw_on"], context)

    def make(class_id, context):
        path, address = inputs["inversion"][class_id], (keys["seed"], class_id)
        mean, variance, shape = read_statistics(path, settings["snapshot"], class_id)
        latents, winner, losses, first = search(
            mean, variance, keys["ipc"], settings, address, device, Checkpoint(context)
        )
        tensors = {
            "latents": latents.view(keys["ipc"], *shape),
            "losses": losses,
            "first": first,
            "winner": torch.tensor([winner]),
        }
        return {"samples.safetensors": tensors}

    return make


def _device(draw_on, context):
    """Return the device of the setting ``draw_on``, which affects the result."""
    if draw_on == "cpu":
        return torch.device("cpu")
    device = context.torch_device()
    if device.type != "cuda":
        raise StillhouseError(
            "draw_on: 'cuda' conflicts with this job's device, the CPU; set draw_on: cpu or use a "
            "GPU"
        )
    return device


def read_statistics(path, snapshot, class_id):
    """Return mean and variance, (d,) float32, and the shape of a latent, of one snapshot.

    Parameters
    ----------
    path : Path
        An ``inversion.safetensors``.
    snapshot : int
        Number of inversion steps.
    class_id : str
        For messages.

    Raises
    ------
    StillhouseError
        If the snapshot is not stored, or the class has no variance.
    """
    stored = store.read_tensors(path)
    snapshots = stored["snapshots"].tolist()
    if snapshot not in snapshots:
        raise StillhouseError(
            f"{path}: unknown snapshot {snapshot}; must be one of {', '.join(map(str, snapshots))}"
        )
    if int(stored["count"]) < 2:
        raise StillhouseError(
            f"{path}: class {class_id}: no variance of a single image; a class must have at least "
            "two"
        )
    row = snapshots.index(snapshot)
    mean, variance = stored["mean"][row], stored["variance"][row]
    return mean, variance, stored["shape"].tolist()
