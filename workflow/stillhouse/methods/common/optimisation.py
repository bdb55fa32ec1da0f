"""The loop of an optimisation of images: curve, snapshots, checkpoints, divergence."""

from abc import ABC, abstractmethod

import torch

from stillhouse.artifacts.checkpoints import select_prefix
from stillhouse.artifacts.progress import track
from stillhouse.methods.common.curves import N_POINTS, Curve
from stillhouse.methods.common.snapshots import snapshot_iterations, write_sheet
from stillhouse.training.loop import Diverged


class Optimised(ABC):
    """Images, or what decodes to images, with the state of their optimisation.

    Attributes
    ----------
    name : str
        Begins the messages: a batch, or an address.
    learning_rate : float
    rate_key : str
        Key of the method that sets it, for messages.
    """

    rate_key = "learning_rate"

    @abstractmethod
    def step(self, iteration):
        """Update the images; return the losses before the update, scalar tensors by name."""

    @abstractmethod
    def snapshot(self):
        """Return the first image of each of up to ten classes, (m, 3, side, side) uint8 tensor."""

    @abstractmethod
    def state(self):
        """Return what the next iteration depends on, a flat dict of str to tensor or number."""

    @abstractmethod
    def restore(self, state):
        """Continue from a `state`, whose tensors are on the CPU."""


def optimise(images, count, checkpoint):
    """Optimise images in place, and resume from a checkpoint to the same bytes.

    Parameters
    ----------
    images : Optimised
    count : int
        Iterations.
    checkpoint : stillhouse.artifacts.checkpoints.Checkpoint

    Returns
    -------
    curve : dict of str to list of (float or None)
        Mean of each loss over every hundredth of the iterations; see `Curve`.
    snapshots : (5, up to 10, 3, side, side) uint8 tensor
        At the start, after each quarter of the iterations, and at the end.

    Raises
    ------
    Diverged
        If a loss is not finite, at the end of an interval of the curve or before a checkpoint; or
        if the state after the last iteration is not.
    """
    curve, snapshots, start = Curve(), [images.snapshot()], 0
    stored = checkpoint.resume(images.name, "iteration")
    if stored is not None:
        tensors, values = stored
        images.restore(select_prefix(tensors, "images.") | values["images"])
        curve.restore(select_prefix(tensors, "curve."), values["curve"])
        start, snapshots = values["done"], list(tensors["snapshots"])
    every, shown = -(-count // N_POINTS), set(snapshot_iterations(count))
    for i in track(range(start, count), count - start, "iterations", curve.last):
        curve.add(images.step(i))
        due, ends = checkpoint.due(last=i + 1 == count), (i + 1) % every == 0 or i + 1 == count
        if due or ends:
            interval = i - i % every + 1, i + 1
            curve.check(images.name, *interval, images.learning_rate, images.rate_key)
        if ends:
            curve.close()
        if i + 1 in shown:
            snapshots.append(images.snapshot())
        if due:
            _save(images, curve, torch.stack(snapshots), i + 1, checkpoint)
    _check_state(images, count)
    return curve.means, torch.stack(snapshots)


def _save(images, curve, snapshots, done, checkpoint):
    tensors, numbers = split(images.state())
    sums, values = curve.state()
    tensors = {f"images.{name}": tensor for name, tensor in tensors.items()}
    tensors |= {f"curve.{name}": tensor for name, tensor in sums.items()}
    tensors["snapshots"] = snapshots
    checkpoint.save(tensors, {"done": done, "images": numbers, "curve": values})
    current = torch.cat([snapshots, images.snapshot()[None]])
    write_sheet(current, checkpoint.path.with_name("snapshots.png"))


def _check_state(images, count):
    """Raise `Diverged` if a tensor of the state is not finite."""
    for name, tensor in split(images.state())[0].items():
        if not tensor.isfinite().all():
            raise Diverged(
                f"{images.name}: {name} is not finite after iteration {count}; lower the method's "
                f"{images.rate_key}, now {images.learning_rate:g}"
            )


def split(state):
    """Return (tensors, numbers) of a flat state."""
    tensors = {name: value for name, value in state.items() if torch.is_tensor(value)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}
