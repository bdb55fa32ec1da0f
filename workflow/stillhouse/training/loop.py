"""The training loop of teachers and students, and the evaluation of networks."""

import math

import torch

from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.finite import NotFinite, check_tensors
from stillhouse.artifacts.progress import track
from stillhouse.errors import StillhouseError
from stillhouse.networks.batchnorm import has_single_values
from stillhouse.networks.registry import global_generator
from stillhouse.training import distributed
from stillhouse.training.lr_schedules import PER_STEP, learning_rate_factor
from stillhouse.training.optimizers import Optimizer

FLOAT32 = {"precision": "float32"}
# Steps between two checks of the loss within an epoch; each check waits for the device.
CHECKED = 1000


class Diverged(StillhouseError):
    """A training whose loss or outputs are no longer finite.

    Parameters
    ----------
    message : str
    curve : list of dict
        The learning curve of the epochs before.
    """

    def __init__(self, message, curve=()):
        super().__init__(message)
        self.curve = list(curve)


def step_bounds(net, n, size, side):
    """Return the (first, end) rows of the training steps of an epoch of n images.

    Every image is in one step, as in the code of the papers; the last step may have fewer. Only
    where a batch norm would normalise a single value per channel, which is impossible, a remainder
    of one image is merged with the step before it.

    Parameters
    ----------
    net : torch.nn.Module
        On its device.
    n, size : int
        Images, and images per step.
    side : int
        Of the images [px].

    Raises
    ------
    StillhouseError
        If the network cannot be trained with one image per step.
    """
    bounds = [(first, min(first + size, n)) for first in range(0, n, size)]
    if bounds[-1][1] - bounds[-1][0] > 1 or not has_single_values(net, side):
        return bounds
    if size == 1 or n == 1:
        raise StillhouseError(
            f"batch_size: 1 conflicts with batch normalisation of maps of 1 × 1 at {side} px; must "
            "be at least 2 images per step"
        )
    return [*bounds[:-2], (bounds[-2][0], n)]


def memory_format(settings):
    """Return the fast memory layout for a precision: channels last for bfloat16."""
    if settings["precision"] == "bfloat16":
        return torch.channels_last
    return torch.contiguous_format


def to_memory_format(net, settings):
    """Convert a network in place to the memory layout of its precision; return it.

    On a CPU, instance and group norms compute in torch's own layout all the same: channels last, in
    bfloat16, their gradients take 5 to 20 times as long (torch 2.15).
    """
    layout = memory_format(settings)
    if layout != torch.contiguous_format:
        for norm in [m for m in net.modules() if isinstance(m, torch.nn.GroupNorm)]:
            norm.register_forward_pre_hook(_to_own_layout)
            norm.register_forward_hook(_to_channels_last)
    return net.to(memory_format=layout)


def _to_own_layout(norm, inputs):
    (x,) = inputs
    return (x.contiguous(),) if x.device.type == "cpu" else inputs


def _to_channels_last(norm, inputs, output):
    on_cpu = output.device.type == "cpu" and output.ndim == 4
    return output.contiguous(memory_format=torch.channels_last) if on_cpu else output


def autocast(settings, device):
    """Return the autocast context of a recipe's precision."""
    return torch.autocast(device.type, torch.bfloat16, settings["precision"] == "bfloat16")


def fit(net, settings, batches, evaluate, context, role, seed, nesterov=False):
    """Train a network in place and return its learning curve.

    Parameters
    ----------
    net : torch.nn.Module
        On its device.
    settings : dict
        ``epochs``, ``optimizer``, ``learning_rate``, ``weight_decay``, ``schedule`` and its keys,
        ``precision``; ``ema``, optional: evaluate the moving average of the parameters.
    batches : callable
        ``batches(epoch)`` returns (number of steps, iterable of (inputs, loss)), where `loss` takes
        the outputs in float32 and returns a scalar. It must depend on the epoch alone.
    evaluate : callable
        ``evaluate(net, epoch)``, epoch from 1, returns a dict for the curve, possibly empty.
    context : stillhouse.artifacts.context.Context
    role : str
        ``teacher`` or ``student``; names the random numbers.
    seed : int
        Of the random numbers that the network draws (dropout), one stream per epoch.
    nesterov : bool
        Kind of momentum of SGD.

    Returns
    -------
    list of dict
        One per epoch: ``epoch`` (from 1), ``loss`` (mean over steps), ``learning_rate`` of the last
        step, and the items that `evaluate` returns.

    Raises
    ------
    Diverged
        With the step and the last finite loss, at the end of the epoch or after 1000 steps.
    """
    optimizer = Optimizer(net, settings, nesterov)
    checkpoint, curve = Checkpoint(context), []
    stored = checkpoint.resume(f"{role} {seed}", "epoch")
    if stored is not None:
        curve = _restore(net, optimizer, *stored)
    epochs = range(len(curve), settings["epochs"])

    def last_loss():
        return f"loss {curve[-1]['loss']:.4f}" if curve else ""

    for epoch in track(epochs, len(epochs), f"{role} {seed} epoch", last_loss):
        net.train()
        try:
            with global_generator(seed, f"{role} network", epoch):
                losses = [row["loss"] for row in curve]
                loss, rate = one_epoch(net, optimizer, settings, epoch, *batches(epoch), losses)
            row = {"epoch": epoch + 1, "loss": loss, "learning_rate": rate}
            with optimizer.averaged():
                curve.append(row | evaluate(net, epoch + 1))
        except (Diverged, NotFinite) as error:
            raise Diverged(
                f"{role} {seed}: diverged in epoch {epoch + 1}, {error}; lower its learning_rate, "
                f"now {settings['learning_rate']:g}",
                curve,
            ) from None
        if checkpoint.due(last=epoch + 1 == settings["epochs"]):
            checkpoint.save(_state(net, optimizer), {"done": len(curve), "curve": curve})
    return curve


def one_epoch(net, optimizer, settings, epoch, n_steps, batches, losses=()):
    """Train for one epoch; return the mean loss and the last learning rate.

    Parameters
    ----------
    epoch : int
        From 0.
    n_steps : int
    batches : iterable of (inputs, loss)
        Of the rows of each step that this process computes, see `distributed.Group.rows`.
    losses : sequence of float
        Mean losses of the previous epochs.

    Raises
    ------
    Diverged
        If a loss is not finite.
    """
    device = next(net.parameters()).device
    per_step, group = settings["schedule"] in PER_STEP, distributed.group()
    layout, total, values = memory_format(settings), torch.zeros((), device=device), []
    for step, (inputs, loss) in enumerate(batches):
        fractional_epoch = epoch + (step / n_steps if per_step else 0)
        factor = learning_rate_factor(settings, fractional_epoch, losses)
        with autocast(settings, device), group.forward():
            outputs = net(inputs.contiguous(memory_format=layout))
        values.append(group.backward(loss(outputs.float()), optimizer.parameters.values()))
        optimizer.step(settings["learning_rate"] * factor)
        total += values[-1]
        if (step + 1) % CHECKED == 0:
            _check_losses(total, values, losses)
    _check_losses(total, values, losses)
    return total.item() / n_steps, settings["learning_rate"] * factor


def _check_losses(total, values, losses):
    """Raise `Diverged` with the first step of an epoch whose loss is not finite.

    Parameters
    ----------
    total : scalar tensor
        Sum of the values.
    values : list of scalar tensors
        Losses of the steps.
    losses : sequence of float
        Mean losses of the previous epochs.
    """
    if math.isfinite(total.item()):
        return
    steps = torch.stack(values).tolist()
    # The sum of finite losses may overflow.
    first = next((i for i, value in enumerate(steps) if not math.isfinite(value)), len(steps) - 1)
    last = steps[first - 1] if first else (losses[-1] if len(losses) else None)
    finite = "none was finite" if last is None else f"the last finite loss is {last:.4g}"
    raise Diverged(f"step {first + 1} of the epoch: loss {steps[first]:.4g}, {finite}")


def _state(net, optimizer):
    states = {"net": net.state_dict(), "optimizer": optimizer.state()}
    return {f"{name}.{k}": t for name, state in states.items() for k, t in state.items()}


def _restore(net, optimizer, tensors, values):
    net.load_state_dict(select_prefix(tensors, "net."))
    optimizer.restore(select_prefix(tensors, "optimizer."))
    return values["curve"]


@torch.no_grad()
def logits(net, images, batch_size, prepare, settings=FLOAT32):
    """Return the outputs of `net` in evaluation mode, (n, classes) float32 on its device.

    Parameters
    ----------
    images : (n, ...) tensor
    batch_size : int
    prepare : callable
        From a slice of `images` to the network's input.
    settings : dict
        ``precision`` of the forward pass.
    """
    net.eval()
    layout = memory_format(settings)
    with autocast(settings, images.device):
        inputs = (
            prepare(batch).contiguous(memory_format=layout) for batch in images.split(batch_size)
        )
        return torch.cat([net(batch).float() for batch in inputs])


def accuracies(outputs, labels):
    """Return top-1 and top-5 accuracy [%]; top-5 is None for five classes or fewer.

    Raises
    ------
    NotFinite
        If an output is not finite: the position of the largest output would then be arbitrary.
    """
    check_tensors({"outputs": outputs})
    ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
    top5 = ranked.any(1).float().mean().item() * 100 if outputs.shape[1] > 5 else None
    return ranked[:, 0].float().mean().item() * 100, top5


def freeze(net):
    """Return `net` in evaluation mode without gradients."""
    return net.eval().requires_grad_(False)
