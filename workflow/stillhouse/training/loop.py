"""The training loop of teachers and students, and the evaluation of networks."""

import torch

from stillhouse.artifacts.checkpoints import Checkpoint, select_prefix
from stillhouse.artifacts.progress import track
from stillhouse.networks.registry import global_generator
from stillhouse.training.lr_schedules import PER_STEP, learning_rate_factor
from stillhouse.training.optimizers import Optimizer

FLOAT32 = {"precision": "float32"}


def memory_format(settings):
    """Return the fast memory layout for a precision: channels last for bfloat16."""
    if settings["precision"] == "bfloat16":
        return torch.channels_last
    return torch.contiguous_format


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
        with global_generator(seed, f"{role} network", epoch):
            losses = [row["loss"] for row in curve]
            loss, rate = one_epoch(net, optimizer, settings, epoch, *batches(epoch), losses)
        row = {"epoch": epoch + 1, "loss": loss, "learning_rate": rate}
        with optimizer.averaged():
            curve.append(row | evaluate(net, epoch + 1))
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
    losses : sequence of float
        Mean losses of the previous epochs.
    """
    device = next(net.parameters()).device
    per_step = settings["schedule"] in PER_STEP
    layout, total = memory_format(settings), torch.zeros((), device=device)
    for step, (inputs, loss) in enumerate(batches):
        fractional_epoch = epoch + (step / n_steps if per_step else 0)
        factor = learning_rate_factor(settings, fractional_epoch, losses)
        with autocast(settings, device):
            outputs = net(inputs.contiguous(memory_format=layout))
        value = loss(outputs.float())
        value.backward()
        optimizer.step(settings["learning_rate"] * factor)
        total += value.detach()
    return total.item() / n_steps, settings["learning_rate"] * factor


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
    """Return top-1 and top-5 accuracy [%]; top-5 is None for five classes or fewer."""
    ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
    top5 = ranked.any(1).float().mean().item() * 100 if outputs.shape[1] > 5 else None
    return ranked[:, 0].float().mean().item() * 100, top5


def freeze(net):
    """Return `net` in evaluation mode without gradients."""
    return net.eval().requires_grad_(False)
